// Device memory: guards, poison, limits; and what is found without instrumented kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/emu/emu.h"
#include "kernels/error.h"
#include "tests/emu/defects.h"

namespace cairn::emu {
namespace {

using kernels::Mistake;

const Mistake& mistake(const std::string& name) {
  const auto all = kernels::mistakes();
  return *std::find_if(all.begin(), all.end(), [&](const Mistake& m) { return name == m.name; });
}

class DeviceMemory : public testing::Test {
 protected:
  void SetUp() override {
    take_reports();
    print_reports(false);
  }
  void TearDown() override {
    print_reports(true);
    set_heap_alignment(256);
    set_memory_limit(0);
    take_reports();
    take_device_error();
  }
};

TEST_F(DeviceMemory, FreshMemoryIsPoison) {
  auto* p = static_cast<float*>(device_malloc(1000));
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 256, 0u);
  std::vector<float> host(250);
  if (!checked()) {  // checked copies report reading it
    device_read(host.data(), p, 1000);
    EXPECT_TRUE(std::all_of(host.begin(), host.end(), [](float x) { return std::isnan(x); }));
  }
  EXPECT_TRUE(is_device_pointer(p));
  EXPECT_FALSE(is_device_pointer(host.data()));
  EXPECT_TRUE(device_range_valid(p, 1000));
  EXPECT_FALSE(device_range_valid(p, 1001));
  EXPECT_FALSE(device_range_valid(p - 1, 4));
  EXPECT_FALSE(device_free(p + 1));
  EXPECT_TRUE(device_free(p));
  EXPECT_FALSE(device_free(p));
  EXPECT_TRUE(take_reports().empty());
}

TEST_F(DeviceMemory, AddressesAreNotUsedAgain) {
  void* first = device_malloc(100);
  EXPECT_TRUE(device_free(first));
  for (int i = 0; i < 100; ++i) {
    void* p = device_malloc(100);
    EXPECT_NE(p, first);
    EXPECT_TRUE(device_free(p));
  }
}

TEST_F(DeviceMemory, LimitIsKept) {
  const std::size_t used = device_bytes_in_use();
  set_memory_limit(used + 1'000'000);
  EXPECT_EQ(device_malloc(1'000'001), nullptr);
  void* p = device_malloc(600'000);
  ASSERT_NE(p, nullptr);
  EXPECT_EQ(device_malloc(600'000), nullptr);
  EXPECT_TRUE(device_free(p));
  EXPECT_EQ(device_bytes_in_use(), used);
}

TEST_F(DeviceMemory, KernelBehindTheEndIsNamedAndGoesOn) {
  auto* a = static_cast<float*>(device_malloc(64 * sizeof(float)));
  auto* b = static_cast<float*>(device_malloc(64 * sizeof(float)));
  device_fill(a, 0, 64 * sizeof(float));
  ASSERT_TRUE(kernels::run_mistake(mistake("unchecked_tail"), true, a, b, 64).ok());
  const std::vector<Report> reports = take_reports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].defect, Defect::out_of_bounds);
  EXPECT_EQ(reports[0].kernel, "unchecked_tail<true>");
  EXPECT_EQ(reports[0].block.x, 1u);
  EXPECT_EQ(reports[0].thread.x, 0u);
  EXPECT_NE(reports[0].message.find("0 bytes behind the end of the 256 bytes"), std::string::npos)
      << reports[0].message;
  EXPECT_EQ(take_device_error(), cudaErrorIllegalAddress);
  EXPECT_EQ(take_device_error(), cudaSuccess);
  std::vector<float> host(64);
  device_read(host.data(), b, 64 * sizeof(float));
  EXPECT_EQ(host, std::vector<float>(64, 0.0f));
  device_free(a);
  device_free(b);
}

TEST_F(DeviceMemory, UseAfterFreeIsNamed) {
  auto* a = static_cast<float*>(device_malloc(4096));
  auto* b = static_cast<float*>(device_malloc(4096));
  device_fill(a, 0, 4096);
  device_free(b);
  ASSERT_TRUE(kernels::run_mistake(mistake("unchecked_tail"), false, a, b, 64).ok());
  const std::vector<Report> reports = take_reports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].defect, Defect::use_after_free);
  EXPECT_NE(reports[0].message.find("since freed"), std::string::npos) << reports[0].message;
  device_free(a);
}

TEST_F(DeviceMemory, WritesIntoTheSlackAreFoundWhenFreed) {
  if (checked()) GTEST_SKIP() << "checked kernels report the write itself";
  auto* a = static_cast<float*>(device_malloc(100 * sizeof(float)));
  auto* b = static_cast<float*>(
      device_malloc(100 * sizeof(float)));  // 400 bytes, 112 of slack up to the guard page
  device_fill(a, 0, 400);
  ASSERT_TRUE(kernels::run_mistake(mistake("unchecked_tail"), true, a, b, 100).ok());
  EXPECT_TRUE(take_reports().empty());
  EXPECT_TRUE(device_free(b));
  const std::vector<Report> reports = take_reports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].defect, Defect::out_of_bounds);
  device_free(a);
}

TEST_F(DeviceMemory, SixteenByteAlignmentMovesTheGuardCloser) {
  set_heap_alignment(16);
  auto* a = static_cast<float*>(device_malloc(100 * sizeof(float)));
  auto* b = static_cast<float*>(device_malloc(100 * sizeof(float)));
  device_fill(a, 0, 400);
  ASSERT_TRUE(kernels::run_mistake(mistake("unchecked_tail"), true, a, b, 100).ok());
  EXPECT_EQ(take_reports().size(), 1u);
  device_free(a);
  device_free(b);
  EXPECT_THROW(set_heap_alignment(64), InputError);
}

TEST_F(DeviceMemory, ThreadsThatCannotGoOnEndAlone) {
  auto* a = static_cast<float*>(device_malloc(256));
  auto* b = static_cast<float*>(device_malloc(256));
  device_fill(a, 0, 256);
  for (const char* name : {"null_pointer", "division_by_zero"}) {
    ASSERT_TRUE(kernels::run_mistake(mistake(name), true, a, b, 64).ok());
    const std::vector<Report> reports = take_reports();
    ASSERT_EQ(reports.size(), 1u) << name;
    EXPECT_EQ(reports[0].count, 64) << name;
    EXPECT_EQ(reports[0].kernel, std::string(name) + "<true>");
  }
  device_free(a);
  device_free(b);
}

TEST(DeviceProfiles, AllTenLoadAndLimitLaunches) {
  const std::vector<std::string> ids = device_profiles();
  EXPECT_EQ(ids.size(), 10u);
  for (const std::string& id : ids) {
    set_device_profile(id);
    const DeviceProfile& p = device_profile();
    EXPECT_EQ(p.max_threads_per_block, 1024) << id;
    EXPECT_EQ("sm" + std::to_string(p.compute_capability), id.substr(0, id.find('_')));
    EXPECT_GE(p.max_shared_memory_per_block_optin, p.max_shared_memory_per_block);
  }
  EXPECT_THROW(set_device_profile("sm00_none"), InputError);
  auto* a = static_cast<float*>(device_malloc(256));
  device_fill(a, 0, 256);
  Mistake m = mistake("dynamic_shared_too_short");
  m.shared_bytes = 96 * 1024;  // fits an H100 (227 KiB), not a T4 (64 KiB)
  print_reports(false);
  set_device_profile("sm75_T4");
  EXPECT_FALSE(kernels::run_mistake(m, false, a, a, 64).ok());
  EXPECT_EQ(take_reports().size(), 1u);
  set_device_profile("sm90_H100");
  EXPECT_TRUE(kernels::run_mistake(m, false, a, a, 64).ok());
  EXPECT_TRUE(take_reports().empty());
  print_reports(true);
  device_free(a);
}

}  // namespace
}  // namespace cairn::emu
