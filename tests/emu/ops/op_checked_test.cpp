// The table of cases on checked kernels: no access out of bounds, uninitialised, misaligned or racing, no
// barrier or warp function that its threads do not share, in any order of threads.
#include "tests/cases/op_run.h"
#include "tests/emu/ops/device.h"

namespace cairn::cases {
namespace {

const OwnMemory kOwnMemory;

class OpTest : public NoReportsTest, public testing::WithParamInterface<std::tuple<OpCase, DType, Device>> {};

TEST_P(OpTest, ChecksFindNothing) {
  const auto& [c, dtype, device] = GetParam();
  ASSERT_TRUE(emu::checked());
  (void)run_once(c, dtype, device);
  in_other_orders([&](const char*) { (void)run_once(c, dtype, device); });
}

INSTANTIATE_TEST_SUITE_P(CudaEmu, OpTest,
                         testing::Combine(testing::ValuesIn(cases::all_cases()),
                                          testing::Values(DType::f32, DType::bf16, DType::f16),
                                          testing::Values(kEmulated)),
                         [](const auto& p) { return test_name(p); });

}  // namespace
}  // namespace cairn::cases
