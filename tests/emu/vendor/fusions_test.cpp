// Graphs that cuDNN would fuse further than the product lets it (docs/cudnn-fusions.md). The plans are
// compiled by cuDNN at run time, for which it opens libcuda.so.1: driver_stand_in.cpp, in reach of these
// tests alone, says that there is no device and lets a compiled kernel be loaded.
#include "tests/emu/vendor/fusions.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>

#include "kernels/emu/emu.h"
#include "tests/emu/vendor/model_graphs.h"
#include "tests/emu/vendor/profile_device.h"

namespace cairn::kernels::cudnn {
namespace {

constexpr std::int64_t kBatch = 32;

bool can_compile() { return std::getenv("CAIRN_DRIVER_STAND_IN") != nullptr; }

bool is_product(Fusion f) { return f == Fusion::matmul || f == Fusion::matmul_bias_relu; }

/// The graphs of the models that a fusion would serve.
std::vector<ConvGraph> shapes(Fusion fusion, const Precision& precision) {
  std::vector<ConvGraph> found;
  if (is_product(fusion)) {
    for (const auto& [c, k] : {std::pair<std::int64_t, std::int64_t>{512, 7}, {100352, 512}}) {
      found.push_back({.x = {kBatch, 1, 1, c}, .w = {k, 1, 1, c}, .y = {kBatch, 1, 1, k}});
      found.back().dtype = static_cast<std::int32_t>(precision.dtype);
    }
    return found;
  }
  const Pass pass = fusion == Fusion::dgrad_relu ? Pass::dgrad : Pass::fprop;
  for (const ConvGraph& g : graphs_of_models(kBatch, precision)) {
    // ResNet's convolutions, which have no bias; the stem reads pixels: there is nothing before it to fuse.
    const bool stem = g.x[3] == 8;
    if (g.pass != pass || g.bias || g.add || (fusion == Fusion::norm_conv && stem)) continue;
    found.push_back(g);
  }
  return found;
}

const Precision& precision_of(const char* name) {
  for (const Precision& p : kPrecisions)
    if (std::string(p.name) == name) return p;
  throw std::logic_error(name);
}

TEST(Fusions, StatisticsNeedAnAmpereGpu) {
  const ConvGraph g = shapes(Fusion::conv_statistics, precision_of("fp16")).front();
  EXPECT_EQ(ask_for(Fusion::conv_statistics, g, profile_device("sm75_T4"), false).engines, 0);
  for (const char* profile : {"sm80_A100", "sm90_H100"}) {
    const Offer offer = ask_for(Fusion::conv_statistics, g, profile_device(profile), false);
    EXPECT_GT(offer.engines, 0) << profile << ": " << offer.failure;
  }
}

// Why such graphs stay outside: what serves them is compiled on the user's machine.
TEST(Fusions, PlansAreCompiledAtRunTime) {
  if (!can_compile()) GTEST_SKIP() << "no stand-in for the driver in reach: ctest -R Fusions";
  const ConvGraph g = shapes(Fusion::conv_statistics, precision_of("bf16")).front();
  for (const char* profile : {"sm80_A100", "sm90_H100"}) {
    const Offer offer = ask_for(Fusion::conv_statistics, g, profile_device(profile), true);
    EXPECT_TRUE(offer.runtime_compiled) << profile;
    EXPECT_GE(offer.workspace, 0) << profile << ": " << offer.failure;
  }
}

// The table of docs/cudnn-fusions.md (scripts/cudnn-plans --fusions).
TEST(Fusions, Table) {
  const char* wish = std::getenv("CAIRN_PLANS");
  if (!wish || std::string(wish) != "fusions") GTEST_SKIP() << "scripts/cudnn-plans --fusions asks for it";
  ASSERT_TRUE(can_compile());
  std::cout
      << "fusions: | graph | dtype | device | shapes | offered | first choices' engines | deterministic | "
         "compiled at run time | on tensor cores | plans built | largest workspace, MiB |\n"
         "fusions: | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const Fusion fusion : kFusions)
    for (const char* name : {"bf16", "fp16"})
      for (const std::string& profile : emu::device_profiles()) {
        const Precision& precision = precision_of(name);
        if (capability(profile) < precision.least_capability) continue;
        const DeviceDescription device = profile_device(profile);
        const bool compile = profile == "sm80_A100" || profile == "sm90_H100";
        int offered = 0, deterministic = 0, compiled = 0, tensor = 0, built = 0;
        std::int64_t workspace = 0;
        std::set<std::int64_t> first;
        const std::vector<ConvGraph> all = shapes(fusion, precision);
        for (const ConvGraph& g : all) {
          const Offer offer = ask_for(fusion, g, device, compile);
          if (offer.engines == 0) continue;
          ++offered;
          first.insert(offer.first);
          deterministic += offer.deterministic;
          compiled += offer.runtime_compiled;
          tensor += offer.tensor_core;
          built += offer.workspace >= 0;
          workspace = std::max(workspace, offer.workspace);
        }
        std::cout << "fusions: | " << name_of(fusion) << " | " << name << " | " << profile << " | "
                  << all.size() << " | " << offered << " | ";
        for (const std::int64_t e : first) std::cout << e << ' ';
        std::cout << "| " << deterministic << " | " << compiled << " | " << tensor << " | "
                  << (compile ? std::to_string(built) : "not tried") << " | " << (workspace >> 20) << " |\n";
      }
}

}  // namespace
}  // namespace cairn::kernels::cudnn
