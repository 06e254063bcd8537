// What `cairn new-op` writes and refuses, and what --plugin refuses. That the skeletons build and pass is
// tested where cairn is installed: scripts/test-install.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/apps/program.h"

namespace cairn::app {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(NewOp, WritesWholeFilesOfEachKind) {
  for (const std::string kind : {"elementwise", "composed", "kernel"}) {
    const data::TempFolder folder;
    const std::string out = folder.path("op");
    const Outcome o = cairn("new-op soft_sign2 --kind " + kind + " --out " + out);
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_THAT(o.out, HasSubstr("--model soft_sign2_net"));
    for (const char* file :
         {"soft_sign2.cpp", "soft_sign2_test.cpp", "soft_sign2_benchmark.cpp", "CMakeLists.txt"}) {
      const std::string text = read_file(out + "/" + file);
      EXPECT_THAT(text, AllOf(HasSubstr("soft_sign2"), Not(HasSubstr("@")))) << file;
    }
    EXPECT_THAT(read_file(out + "/soft_sign2.cpp"),
                AllOf(HasSubstr("SoftSign2"), HasSubstr("CAIRN_PLUGIN();")));
    EXPECT_EQ(std::distance(fs::directory_iterator(out), fs::directory_iterator()), 4);
  }
}

void expect_refused(const std::string& arguments, const std::string& why) {
  const Outcome o = cairn(arguments);
  EXPECT_EQ(o.status, 2) << arguments;
  EXPECT_EQ(lines_of(o.err).size(), 1u) << o.err;
  EXPECT_THAT(o.err, HasSubstr(why));
}

TEST(NewOp, RefusesNamesAndFoldersInOneLine) {
  const data::TempFolder folder;
  for (const char* name : {"Swish", "2swish", "my-op", "my__op", "op_", "../op", "_op", "''", "'a b'"})
    expect_refused("new-op --out " + folder.path("x") + " -- " + name, "an op cannot be called");
  for (const char* name : {"class", "relu", "std"})
    expect_refused("new-op " + std::string(name) + " --out " + folder.path("x"), "choose another name");
  EXPECT_FALSE(fs::exists(folder.path("x")));
  fs::create_directory(folder.path("there"));
  expect_refused("new-op swish --out " + folder.path("there"), "is there already");
  expect_refused("new-op swish --kind magic --out " + folder.path("x"), "--kind");
}

TEST(PluginOption, IsRefusedInOneLine) {
  const data::TempFolder folder;
  folder.write("text.so", "no shared object");
  for (const std::string command : {"train --data x", "evaluate --run x", "predict --run x y"}) {
    expect_refused(command + " --plugin " + folder.path("missing.so"), "there is no plugin");
    expect_refused(command + " --plugin=" + folder.path("text.so"), "cannot load the plugin");
  }
  expect_refused("train --plugin", "--plugin is followed by the path");
}

// What trained on one machine is used on another, or the plugin was built again elsewhere.
TEST(PluginOption, BesideARunStandsInForTheOneThatTheRunRemembers) {
  const data::TempFolder folder;
  const std::string old_place = folder.path("old.so"), new_place = folder.path("new.so");
  fs::copy(CAIRN_PLUGIN_FAULTY, old_place);
  for (int i = 0; i < 18; ++i)
    folder.write((i % 2 ? "data/a/" : "data/b/") + std::to_string(i) + ".png",
                 make_png(8, 8, static_cast<unsigned>(i), static_cast<unsigned>(i % 2)));
  const std::string run = folder.path("run");
  ASSERT_EQ(
      cairn("train --quiet --data " + folder.path("data") + " --out " + run + " --plugin " + old_place +
            " --model faulty --image-size 8 --epochs 1 --batch-size 4 --device cpu --near-duplicates ignore")
          .status,
      0);
  EXPECT_EQ(cairn("evaluate --run " + run).status, 0);
  fs::rename(old_place, new_place);
  expect_refused("evaluate --run " + run, "there is no plugin " + old_place);
  EXPECT_EQ(cairn("evaluate --run " + run + " --plugin " + new_place).status, 0);
  EXPECT_EQ(cairn("predict --run " + run + " --plugin " + new_place + " " + folder.path("data")).status, 0);
}

}  // namespace
}  // namespace cairn::app
