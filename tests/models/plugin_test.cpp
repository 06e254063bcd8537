#include "models/plugin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "kernels/error.h"

namespace cairn::models {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

void expect_refused(const std::string& path, const std::string& why) {
  try {
    load_plugin(path);
    ADD_FAILURE() << path << " was loaded";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(why), Not(HasSubstr("\n"))));
  }
}

TEST(Plugin, BringsAModelOnce) {
  const std::string path = load_plugin(CAIRN_PLUGIN_GOOD);
  EXPECT_TRUE(std::filesystem::path(path).is_absolute());
  EXPECT_EQ(load_plugin(CAIRN_PLUGIN_GOOD), path);
  EXPECT_EQ(model_info("mean_colour").summary, "mean colour");
  EXPECT_EQ(all_models().back().name, "mean_colour");
  const auto model = make_model("mean_colour", {.classes = 5, .image_size = 8});
  EXPECT_EQ(model->forward(full({2, 8, 8, 3}, 0.5)).shape(), (Shape{2, 5}));
}

TEST(Plugin, OfAnotherInterfaceIsRefusedBeforeItRuns) {
  expect_refused(CAIRN_PLUGIN_FUTURE,
                 "was built for another cairn (plugin interface 999, here it is 1): build it again");
  EXPECT_THAT([] { (void)model_info("future"); }, testing::Throws<InputError>());
}

TEST(Plugin, WithATakenNameIsRefused) {
  expect_refused(CAIRN_PLUGIN_TAKEN, "there is a model 'resnet18' already: choose another name");
}

TEST(Plugin, OtherFilesAreRefused) {
  expect_refused(CAIRN_PLUGIN_NONE, "is no plugin of cairn: it lacks CAIRN_PLUGIN()");
  expect_refused("/no/such/libfile.so", "there is no plugin /no/such/libfile.so");
  expect_refused(std::filesystem::temp_directory_path().string(), "there is no plugin");
  const auto text =
      std::filesystem::temp_directory_path() / ("cairn_plugin_" + std::to_string(::getpid()) + ".so");
  std::ofstream(text) << "not a shared object";
  expect_refused(text.string(), "cannot load the plugin");
  std::filesystem::remove(text);
}

TEST(Registry, RefusesNamesThatNobodyCouldType) {
  for (const char* name : {"", "My Model", "a/b", "\xff"})
    EXPECT_THROW(
        register_model(
            {.name = name, .summary = "", .head = "fc", .defaults = resnet_defaults(), .make = nullptr}),
        InputError)
        << name;
}

}  // namespace
}  // namespace cairn::models
