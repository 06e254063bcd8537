// Plans in memory and on disk: what was stored comes back, and nothing else does.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kernels/cuda/plan_cache.h"
#include "tests/emu/vendor/model_graphs.h"
#include "tests/emu/vendor/profile_device.h"

namespace cairn::kernels::cudnn {
namespace {

std::string describe(const Plan& p) {
  return "engine " + std::to_string(p.notes.engine) + ", " + std::to_string(p.workspace) + " bytes";
}

class PlanCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("cairn-plans-" + std::to_string(getpid()));
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  PlanCache cache() const { return PlanCache(profile_device(kProfile), PlanFiles(folder_)); }
  std::filesystem::path file() const {
    return PlanFiles(folder_).file_of(graph_, profile_device(kProfile).json());
  }

  static constexpr const char* kProfile = "sm90_H100";
  std::filesystem::path folder_;
  ConvGraph graph_ = graphs_of_models(32, kPrecisions[2]).front();
};

TEST_F(PlanCacheTest, APlanFromDiskIsTheOneThatWasStored) {
  PlanCache first = cache(), second = cache();
  const auto chosen = first.get(graph_);
  ASSERT_TRUE(chosen->plan);
  EXPECT_EQ(first.get(graph_), chosen);
  EXPECT_EQ(first.counts().hits, 1);
  EXPECT_TRUE(std::filesystem::exists(file()));
  const auto loaded = second.get(graph_);
  ASSERT_TRUE(loaded->plan);
  EXPECT_EQ(describe(*loaded->plan), describe(*chosen->plan));
  EXPECT_EQ(loaded->plan->json, chosen->plan->json);
}

// Every byte flipped, every length cut: never a plan that was not stored, never a crash.
TEST_F(PlanCacheTest, DamagedFilesAreIgnoredAndWrittenAnew) {
  const PlanFiles files(folder_);
  const std::string device = profile_device(kProfile).json();
  ASSERT_TRUE(cache().get(graph_)->plan);
  const std::string whole = text_of(file());
  ASSERT_TRUE(files.load(graph_, device));
  const auto write = [&](const std::string& text) { std::ofstream(file(), std::ios::binary) << text; };
  testing::internal::CaptureStderr();
  for (std::size_t i = 0; i < whole.size(); i += 7) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ 0x20);
    write(bad);
    EXPECT_FALSE(files.load(graph_, device)) << "byte " << i;
    write(whole.substr(0, i));
    EXPECT_FALSE(files.load(graph_, device)) << "cut at " << i;
  }
  PlanCache again = cache();
  EXPECT_TRUE(again.get(graph_)->plan);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("is damaged: it is ignored"), std::string::npos);
  EXPECT_EQ(text_of(file()), whole);
}

TEST_F(PlanCacheTest, AnotherGraphOrDeviceIsAMiss) {
  ASSERT_TRUE(cache().get(graph_)->plan);
  ConvGraph other = graph_;
  other.x[0] = other.y[0] = 31;
  EXPECT_FALSE(PlanFiles(folder_).load(other, profile_device(kProfile).json()));
  EXPECT_FALSE(PlanFiles(folder_).load(graph_, profile_device("sm80_A100").json()));
  // A file under another's name, as if hashes had collided.
  const PlanFiles files(folder_);
  std::filesystem::copy_file(file(), files.file_of(other, profile_device(kProfile).json()));
  EXPECT_FALSE(files.load(other, profile_device(kProfile).json()));
}

TEST_F(PlanCacheTest, AFolderThatCannotBeWrittenMeansNoCache) {
  folder_ = "/proc/nowhere";
  EXPECT_TRUE(cache().get(graph_)->plan);
}

}  // namespace
}  // namespace cairn::kernels::cudnn
