#pragma once
#include <gtest/gtest.h>

#include <hwy/targets.h>
#include <cstdint>
#include <string>
#include <vector>

namespace cairn::data {

/// Every instruction set of this machine that the code was compiled for, one after another.
class EachSimdTarget : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    forget();
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    forget();
  }
  static void forget() { hwy::GetChosenTarget().DeInit(); }
};

inline std::vector<int64_t> simd_targets() {
  std::vector<int64_t> result;
  for (int64_t rest = hwy::SupportedTargets() & (HWY_SSE4 | HWY_AVX2 | HWY_AVX3); rest != 0;
       rest &= rest - 1) {
    result.push_back(rest & -rest);
  }
  return result;
}

inline std::string simd_target_name(const testing::TestParamInfo<int64_t>& target) {
  return hwy::TargetName(target.param);
}

}  // namespace cairn::data
