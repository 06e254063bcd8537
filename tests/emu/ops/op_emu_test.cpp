// The table of cases on the emulated device: the reference in four dtypes, and the same bits whatever the
// order in which threads and blocks run.
#include "tests/cases/op_driver.h"
#include "tests/emu/ops/device.h"

namespace cairn::cases {
namespace {

const OwnMemory kOwnMemory;

TEST_P(OpTest, NoOrderOfThreadsChangesABit) {
  const auto want = run_once(op_case(), dtype(), device());
  in_other_orders(
      [&](const char* order) { EXPECT_EQ(run_once(op_case(), dtype(), device()), want) << order; });
}

INSTANTIATE_TEST_SUITE_P(CudaEmu, OpTest,
                         testing::Combine(testing::ValuesIn(cases::all_cases()),
                                          testing::Values(DType::f64, DType::f32, DType::bf16, DType::f16),
                                          testing::Values(kEmulated)),
                         test_name);

}  // namespace
}  // namespace cairn::cases
