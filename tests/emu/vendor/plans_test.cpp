// The real cuDNN, asked about ten GPUs without one, through the code that runs on a GPU: every convolution of
// the three models, forward, data gradient and weight gradient, fused with bias, residual and ReLU as the
// models fuse it, has a plan that is deterministic, keeps to the workspace limit, needs no compiler and uses
// tensor cores where it should. The choices are held against a table for this version of cuDNN,
// plans-VERSION.tsv: batch 32 everywhere and batches 1 and 256 on one device of each kind here, all of it by
// scripts/cudnn-plans, which also makes the table anew (CAIRN_PLANS=check or write).
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <map>

#include "kernels/emu/emu.h"
#include "tests/emu/vendor/model_graphs.h"
#include "tests/emu/vendor/profile_device.h"

namespace cairn::kernels::cudnn {
namespace {

const std::filesystem::path kTable = std::filesystem::path(CAIRN_SOURCE_DIR) / "tests/emu/vendor" /
                                     ("plans-" + std::to_string(cudnnGetVersion()) + ".tsv");

std::string wish() {
  const char* text = std::getenv("CAIRN_PLANS");
  return text ? text : "";
}

/// By graph ("32 bf16 dgrad x[...] ..."), then by device: "engine workspace notes".
using Plans = std::map<std::string, std::map<std::string, std::string>>;

// T tensor cores, D deterministic, P precompiled; W Winograd with tiles of 6x6 and more, - reduced precision.
std::string cell(const Plan& p) {
  const EngineNotes& n = p.notes;
  return std::to_string(n.engine) + ' ' + std::to_string(p.workspace) + ' ' + (n.tensor_core ? "T" : "") +
         (n.deterministic ? "D" : "") + (n.runtime_compiled ? "" : "P") + (n.large_winograd ? "W" : "") +
         (n.reduced_precision ? "-" : "");
}

int choose_all(const std::string& profile, std::int64_t batch, Plans& plans) {
  const DeviceDescription device = profile_device(profile);
  int count = 0;
  for (const Precision& precision : kPrecisions) {
    if (capability(profile) < precision.least_capability) continue;
    for (const ConvGraph& graph : graphs_of_models(batch, precision)) {
      const std::string what = std::to_string(batch) + ' ' + precision.name + ' ' + to_string(graph);
      try {
        const Plan plan = choose_plan(graph, device, workspace_limit(graph));
        EXPECT_LE(plan.workspace, workspace_limit(graph)) << profile << ' ' << what;
        EXPECT_TRUE(plan.notes.deterministic && !plan.notes.reduced_precision && !plan.notes.runtime_compiled)
            << profile << ' ' << what;
        EXPECT_EQ(plan.notes.tensor_core, precision.wants_tensor_cores) << profile << ' ' << what;
        plans[what][profile] = cell(plan);
        ++count;
      } catch (const CudnnError& e) {
        ADD_FAILURE() << profile << ' ' << what << ": " << e.what();
      }
    }
  }
  return count;
}

Plans read_table() {
  Plans table;
  std::istringstream in(text_of(kTable));
  std::vector<std::string> devices;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    std::string graph, value;
    std::getline(fields, graph, '\t');
    if (devices.empty()) {  // the header
      while (std::getline(fields, value, '\t')) devices.push_back(value);
      continue;
    }
    for (const std::string& device : devices)
      if (std::getline(fields, value, '\t') && !value.empty()) table[graph][device] = value;
  }
  return table;
}

void write_table(const Plans& plans) {
  std::ofstream out(kTable);
  out << "# Plans that choose_plan() takes for the models' convolutions, cuDNN " << cudnnGetVersion()
      << "; made by scripts/cudnn-plans --write.\n"
      << "# A cell is: cuDNN's engine, bytes of workspace, notes (T tensor cores, D deterministic, P "
         "precompiled);"
      << " empty where the device has no such type.\n"
      << "batch, precision, graph";
  for (const std::string& device : emu::device_profiles()) out << '\t' << device;
  for (const auto& [graph, cells] : plans) {
    out << '\n' << graph;
    for (const std::string& device : emu::device_profiles()) {
      const auto found = cells.find(device);
      out << '\t' << (found == cells.end() ? "" : found->second);
    }
  }
  out << '\n';
}

/// Each choice is the table's.
void compare(const Plans& plans, const Plans& table) {
  for (const auto& [graph, cells] : plans)
    for (const auto& [device, chosen] : cells) {
      const auto row = table.find(graph);
      const auto found = row == table.end() ? cells.end() : row->second.find(device);
      EXPECT_EQ(chosen, row == table.end() || found == row->second.end() ? "not in the table" : found->second)
          << device << ' ' << graph;
    }
}

void hold_against_the_table(const Plans& plans) {
  const Plans table = read_table();
  if (table.empty())
    GTEST_SKIP() << "no table for cuDNN " << cudnnGetVersion()
                 << ": the choices were checked, not compared (scripts/cudnn-plans --write)";
  compare(plans, table);
}

TEST(Plans, EveryConvolutionOfTheModelsOnEveryDevice) {
  Plans plans;
  int count = 0;
  for (const std::string& profile : emu::device_profiles()) count += choose_all(profile, 32, plans);
  std::cout << count << " graphs on " << emu::device_profiles().size()
            << " emulated device profiles, batch 32\n";
  EXPECT_GT(count, 1000);
  hold_against_the_table(plans);
}

// One device of each kind of tensor core: sm_75 without TF32 and bf16, sm_80, sm_90.
TEST(Plans, BatchesOf1And256AreServedInTheSameWay) {
  Plans plans;
  for (const char* profile : {"sm75_T4", "sm80_A100", "sm90_H100"})
    for (const std::int64_t batch : {1, 256}) EXPECT_GT(choose_all(profile, batch, plans), 80);
  hold_against_the_table(plans);
}

TEST(Plans, AllBatchesOnAllDevices) {
  if (wish().empty()) GTEST_SKIP() << "scripts/cudnn-plans asks for it";
  Plans plans;
  int count = 0;
  for (const std::string& profile : emu::device_profiles())
    for (const std::int64_t batch : {1, 32, 256}) count += choose_all(profile, batch, plans);
  std::cout << "plans: " << count << " graphs, " << plans.size() << " rows, " << emu::device_profiles().size()
            << " devices, cuDNN " << cudnnGetVersion() << '\n';
  if (wish() == "write") {
    ASSERT_FALSE(HasFailure()) << "not written";
    write_table(plans);
    return;
  }
  const Plans table = read_table();
  ASSERT_FALSE(table.empty()) << "no table for cuDNN " << cudnnGetVersion()
                              << ": scripts/cudnn-plans --write";
  compare(plans, table);
  EXPECT_EQ(plans.size(), table.size()) << "the table has graphs that no model has";
}

TEST(Plans, T4HasNoBf16AndSaysSo) {
  const DeviceDescription device = profile_device("sm75_T4");
  const ConvGraph graph = graphs_of_models(32, kPrecisions[2]).front();
  try {
    (void)choose_plan(graph, device, workspace_limit(graph));
    FAIL() << "a plan for bf16 on sm_75";
  } catch (const CudnnError& e) {
    EXPECT_NE(std::string(e.what()).find("no plan for fprop bf16"), std::string::npos) << e.what();
  }
}

TEST(Plans, TheStemInSixteenBitsIsPaddedToEightChannelsAndNeedsNoWorkspace) {
  const DeviceDescription device = profile_device("sm90_H100");
  int stems = 0;
  for (const ConvGraph& graph : graphs_of_models(32, kPrecisions[2])) {
    EXPECT_EQ(graph.x[3] % 8, 0) << to_string(graph);
    if (graph.x[3] != 8) continue;
    ++stems;
    EXPECT_LT(choose_plan(graph, device, workspace_limit(graph)).workspace, 8u << 20) << to_string(graph);
  }
  EXPECT_GE(stems, 4) << "ResNet's and ModelCNN's first layers, forward and wgrad";
}

// A linear layer as a 1x1 convolution, the second opinion on cuBLASLt (second_opinion_test.cpp).
TEST(Plans, ALinearLayerAsAConvolutionHasOneOnEveryDevice) {
  for (const std::string& profile : emu::device_profiles())
    for (const DType t : {DType::f32, DType::f16})
      for (const Pass pass : {Pass::fprop, Pass::dgrad, Pass::wgrad}) {
        ConvGraph g{.x = {32, 1, 1, 512}, .w = {7, 1, 1, 512}, .y = {32, 1, 1, 7}, .pass = pass};
        g.dtype = static_cast<std::int32_t>(t);
        const Plan plan = choose_plan(g, profile_device(profile), workspace_limit(g));
        EXPECT_TRUE(plan.notes.deterministic && !plan.notes.reduced_precision)
            << profile << ' ' << to_string(g);
      }
}

}  // namespace
}  // namespace cairn::kernels::cudnn
