// The real cuDNN, asked about ten GPUs without one, through the code that runs on a GPU: every convolution of
// the three models has a plan that is deterministic, keeps to the workspace limit, and uses tensor cores
// where it should. The choices are held against a table for this version of cuDNN:
//   CAIRN_WRITE_PLANS=1 build/cuda-emu/bin/emu_vendor_tests --gtest_filter='Plans.*'   makes it anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>

#include "kernels/cuda/plan_cache.h"
#include "kernels/emu/emu.h"
#include "tests/emu/vendor/model_graphs.h"

namespace cairn::kernels::cudnn {
namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

const std::filesystem::path kFolder = std::filesystem::path(CAIRN_SOURCE_DIR) / "tests/emu/vendor";
const std::filesystem::path kTable = kFolder / ("plans-" + std::to_string(cudnnGetVersion()) + ".txt");

DeviceDescription describe(const std::string& profile) {
  return DeviceDescription::of_json(
      text_of(std::filesystem::path(CAIRN_SOURCE_DIR) / "kernels/emu/profiles" / (profile + ".json")));
}
/// "sm90_H100" -> 90
int capability(const std::string& profile) { return std::atoi(profile.c_str() + 2); }

std::string describe(const Plan& p) {
  return "engine " + std::to_string(p.notes.engine) + ", " + std::to_string(p.workspace) + " bytes" +
         (p.notes.tensor_core ? ", tensor cores" : "");
}

/// One line a graph: "sm80_A100 bf16: fprop ...: engine 22, 0 bytes, tensor cores".
std::map<std::string, std::string> choose_all(const std::string& profile, std::int64_t batch) {
  std::map<std::string, std::string> lines;
  const DeviceDescription device = describe(profile);
  for (const Precision& precision : kPrecisions) {
    if (capability(profile) < precision.least_capability) continue;
    for (const ConvGraph& graph : graphs_of_models(batch, precision)) {
      const std::string what = profile + " " + precision.name + ": " + to_string(graph);
      try {
        const Plan plan = choose_plan(graph, device, workspace_limit(graph));
        EXPECT_LE(plan.workspace, workspace_limit(graph)) << what;
        EXPECT_TRUE(plan.notes.deterministic && !plan.notes.reduced_precision && !plan.notes.runtime_compiled)
            << what;
        EXPECT_EQ(plan.notes.tensor_core, precision.wants_tensor_cores) << what;
        lines[what] = describe(plan);
      } catch (const CudnnError& e) {
        ADD_FAILURE() << what << ": " << e.what();
      }
    }
  }
  return lines;
}

std::map<std::string, std::string> read_table() {
  std::map<std::string, std::string> table;
  std::istringstream in(text_of(kTable));
  for (std::string line; std::getline(in, line);)
    if (const auto at = line.rfind(": engine "); at != std::string::npos)
      table[line.substr(0, at)] = line.substr(at + 2);
  return table;
}

TEST(Plans, EveryConvolutionOfTheModelsOnEveryDevice) {
  std::map<std::string, std::string> lines;
  for (const std::string& profile : emu::device_profiles()) lines.merge(choose_all(profile, 32));
  std::cout << lines.size() << " graphs on " << emu::device_profiles().size()
            << " emulated device profiles, batch 32\n";
  EXPECT_GT(lines.size(), 1000u);
  if (std::getenv("CAIRN_WRITE_PLANS")) {
    std::ofstream out(kTable);
    out << "Plans that choose_plan() takes for the models' convolutions at batch 32, cuDNN "
        << cudnnGetVersion() << "; written by plans_test.cpp.\n";
    for (const auto& [what, plan] : lines) out << what << ": " << plan << '\n';
    GTEST_SKIP() << "wrote " << kTable;
  }
  const auto table = read_table();
  if (table.empty())
    GTEST_SKIP() << "no table for cuDNN " << cudnnGetVersion() << ": the choices were checked, not compared";
  EXPECT_EQ(lines.size(), table.size());
  for (const auto& [what, plan] : lines) {
    const auto found = table.find(what);
    EXPECT_EQ(plan, found == table.end() ? "not in the table" : found->second) << what;
  }
}

// One device of each kind of tensor core: sm_75 without TF32 and bf16, sm_80, sm_90.
TEST(Plans, BatchesOf1And256AreServedInTheSameWay) {
  for (const char* profile : {"sm75_T4", "sm80_A100", "sm90_H100"})
    for (const std::int64_t batch : {1, 256}) EXPECT_GT(choose_all(profile, batch).size(), 80u);
}

TEST(Plans, T4HasNoBf16AndSaysSo) {
  const DeviceDescription device = describe("sm75_T4");
  const ConvGraph graph = graphs_of_models(32, kPrecisions[2]).front();
  try {
    (void)choose_plan(graph, device, workspace_limit(graph));
    FAIL() << "a plan for bf16 on sm_75";
  } catch (const CudnnError& e) {
    EXPECT_NE(std::string(e.what()).find("no plan for fprop bf16"), std::string::npos) << e.what();
  }
}

TEST(Plans, TheStemInSixteenBitsIsPaddedToEightChannelsAndNeedsNoWorkspace) {
  const DeviceDescription device = describe("sm90_H100");
  int stems = 0;
  for (const ConvGraph& graph : graphs_of_models(32, kPrecisions[2])) {
    EXPECT_EQ(graph.x[3] % 8, 0) << to_string(graph);
    if (graph.x[3] != 8) continue;
    ++stems;
    EXPECT_LT(choose_plan(graph, device, workspace_limit(graph)).workspace, 8u << 20) << to_string(graph);
  }
  EXPECT_GE(stems, 4) << "ResNet's and ModelCNN's first layers, forward and wgrad";
}

class PlanCacheTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("cairn-plans-" + std::to_string(getpid()));
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  PlanCache cache() const { return PlanCache(describe(kProfile), PlanFiles(folder_)); }
  std::filesystem::path file() const { return PlanFiles(folder_).file_of(graph_, describe(kProfile).json()); }

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
  const std::string device = describe(kProfile).json();
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
  EXPECT_FALSE(PlanFiles(folder_).load(other, describe(kProfile).json()));
  EXPECT_FALSE(PlanFiles(folder_).load(graph_, describe("sm80_A100").json()));
  // A file under another's name, as if hashes had collided.
  const PlanFiles files(folder_);
  std::filesystem::copy_file(file(), files.file_of(other, describe(kProfile).json()));
  EXPECT_FALSE(files.load(other, describe(kProfile).json()));
}

TEST_F(PlanCacheTest, AFolderThatCannotBeWrittenMeansNoCache) {
  folder_ = "/proc/nowhere";
  EXPECT_TRUE(cache().get(graph_)->plan);
}

}  // namespace
}  // namespace cairn::kernels::cudnn
