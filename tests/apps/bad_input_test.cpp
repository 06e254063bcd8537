// Bad input gives one clear line and the right exit status, or a warning and a run that goes on without the
// file; never a crash, never a half-written file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>

#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

namespace fs = std::filesystem;

// Seconds, not minutes: 16 pixels, one epoch, fp32.
constexpr const char* kShort =
    " --model model_cnn --image-size 16 --epochs 1 --batch-size 4 --precision fp32 --device cpu --threads 2"
    " --workers 2 --quiet";

class BadInput : public testing::Test {
 protected:
  BadInput() { make_data(folder_, 3, 8); }

  Outcome train(const std::string& more = "") const {
    return cairn("train --data " + folder_.path("data") + " --out " + folder_.path("run") + kShort + more);
  }
  // An error is one line and nothing else.
  static void expect_error(const Outcome& o, int status, const std::string& what) {
    EXPECT_EQ(o.status, status) << o.err;
    const std::vector<std::string> lines = lines_of(o.err);
    ASSERT_EQ(lines.size(), 1U) << o.err;
    EXPECT_THAT(lines[0], AllOf(StartsWith("error: "), HasSubstr(what)));
  }
  // The file is named with its reason, the number of those left out is said, and the run is whole.
  void expect_left_out(const Outcome& o, const std::string& file) const {
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_THAT(o.err, HasSubstr("left out " + file));
    EXPECT_THAT(o.err, HasSubstr("1 of 25 images could not be read"));
    EXPECT_TRUE(fs::exists(folder_.path("run/checkpoints/best.safetensors")));
    EXPECT_EQ(lines_of(read_file(folder_.path("run/split.csv"))).size(), 25U);  // the header and 24 images
  }
  void expect_damaged_is_left_out(const std::string& name, const std::string& content) const {
    folder_.write("data/c1/" + name, content);
    expect_left_out(train(), "c1/" + name);
  }

  data::TempFolder folder_;
};

TEST_F(BadInput, MissingFolder) {
  expect_error(cairn("train --data " + folder_.path("nowhere") + kShort + " --out " + folder_.path("run")), 2,
               "nowhere");
  EXPECT_FALSE(fs::exists(folder_.path("run")));
}

TEST_F(BadInput, EmptyClass) {
  fs::create_directory(folder_.path("data/none"));
  expect_error(train(), 2, "none");
}

TEST_F(BadInput, ClassWithOneImage) {
  folder_.write("data/single/only.png", make_png(32, 32, 7, 9));
  const Outcome o = train();
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, AllOf(HasSubstr("warning: "), HasSubstr("single")));
}

TEST_F(BadInput, TextNamedAsJpeg) { expect_damaged_is_left_out("text.jpg", "this is no image at all\n"); }
TEST_F(BadInput, ZeroBytes) { expect_damaged_is_left_out("zero.png", ""); }
TEST_F(BadInput, TruncatedJpeg) {
  const std::string whole = make_jpeg(64, 64, 1);
  expect_damaged_is_left_out("half.jpg", whole.substr(0, whole.size() / 2));
}
TEST_F(BadInput, TruncatedPng) {
  const std::string whole = make_png(64, 64, 1, 1);
  expect_damaged_is_left_out("half.png", whole.substr(0, whole.size() / 2));
}
TEST_F(BadInput, FlippedBitInPng) {
  std::string damaged = make_png(64, 64, 1, 1);
  damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 4);
  expect_damaged_is_left_out("flipped.png", damaged);
}
TEST_F(BadInput, PngOf600Megapixels) { expect_damaged_is_left_out("bomb.png", make_png_bomb(30000, 20000)); }

TEST_F(BadInput, NoImageOfAClassCanBeRead) {
  folder_.write("data/broken/a.png", "no");
  folder_.write("data/broken/b.png", "neither");
  expect_error(train(), 2, "broken");
}

TEST_F(BadInput, UnknownOption) {
  expect_error(train(" --learning-rat 3"), 2, "--learning-rat");
  expect_error(cairn("trian"), 2, "trian");
  expect_error(cairn("train"), 2, "--data");
  expect_error(train(" --model resnet19"), 2, "resnet19");
  expect_error(train(" --batch-size 0"), 2, "--batch-size");
  expect_error(train(" --lr -1"), 2, "--lr");
  EXPECT_FALSE(fs::exists(folder_.path("run")));
}

TEST_F(BadInput, PrecisionThatTheCpuHasNot) {
  for (const std::string precision : {"fp16", "tf32"}) {
    expect_error(train(" --precision " + precision), 2, "--precision " + precision);
    EXPECT_FALSE(fs::exists(folder_.path("run")));
  }
}

TEST_F(BadInput, DeviceThatIsNotThere) {
  const Outcome o = cairn("train --data " + folder_.path("data") + " --out " + folder_.path("run") +
                          " --quiet --device cuda:7");
  expect_error(o, 2, "cuda");
}

TEST_F(BadInput, RunDirectoryInUse) {
  folder_.write("run/precious.txt", "mine");
  expect_error(train(), 2, "not empty");
  EXPECT_EQ(read_file(folder_.path("run/precious.txt")), "mine");
}

TEST_F(BadInput, CheckpointOfAnotherModel) {
  ASSERT_EQ(train().status, 0);
  const std::string image = folder_.path("data/c0/100.png");
  const std::string weights = folder_.path("run/checkpoints/best.safetensors");
  expect_error(cairn("predict --quiet --weights " + weights + " --model resnet18 " + image), 2,
               "best.safetensors");
  expect_error(cairn("predict --quiet --run " + folder_.path("data") + " " + image), 2, "config.json");
  const std::string bytes = read_file(weights);
  folder_.write("cut.safetensors", bytes.substr(0, bytes.size() / 2));
  expect_error(cairn("predict --quiet --weights " + folder_.path("cut.safetensors") + " " + image), 2,
               "cut.safetensors");
  folder_.write("run/config.json", "{");
  expect_error(cairn("predict --quiet --run " + folder_.path("run") + " " + image), 2, "config.json");
}

TEST_F(BadInput, PredictGoesOnWithoutADamagedFile) {
  ASSERT_EQ(train().status, 0);
  folder_.write("photos/a.png", make_png(20, 30, 1, 1));
  folder_.write("photos/b.jpg", "text");
  const std::string run = " --run " + folder_.path("run") + " ";
  const Outcome o = cairn("predict --json --quiet" + run + folder_.path("photos"));
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(lines_of(o.out).size(), 1U) << o.out;
  EXPECT_THAT(o.err, AllOf(HasSubstr("b.jpg"), HasSubstr("1 of 2 images could not be read")));
  EXPECT_EQ(cairn("predict --quiet" + run + folder_.path("photos/b.jpg")).status, 2);
  expect_error(cairn("predict --quiet" + run + folder_.path("gone.png")), 2, "gone.png");
}

void expect_nothing_half_written(const std::string& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    EXPECT_THAT(entry.path().filename().string(), testing::Not(HasSubstr(".tmp"))) << "left behind";
}

TEST_F(BadInput, NoRoomOnTheDisk) {
  // Room for config, split and log; the weights (1.5 MB) do not fit.
  const Mounted small(folder_.path("small"), "size=256k");
  if (!small.ok()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  const Outcome o =
      cairn("train --data " + folder_.path("data") + " --out " + folder_.path("small/run") + kShort);
  expect_error(o, 1, "small/run");
  expect_nothing_half_written(folder_.path("small"));
  EXPECT_FALSE(fs::exists(folder_.path("small/run/checkpoints/last.safetensors")));
}

TEST_F(BadInput, NoPermissionToWrite) {
  const Mounted fixed(folder_.path("fixed"), "size=256k", MS_RDONLY);
  if (!fixed.ok()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  const Outcome o =
      cairn("train --data " + folder_.path("data") + " --out " + folder_.path("fixed/run") + kShort);
  expect_error(o, 1, "fixed/run");
}

}  // namespace
}  // namespace cairn::app
