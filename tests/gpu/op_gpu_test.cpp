// The table of cases on a GPU: the reference in each dtype that it computes.
#include "tests/cases/op_driver.h"
#include "tests/emu/ops/device.h"

namespace cairn::cases {
namespace {

const OwnMemory kOwnMemory;

INSTANTIATE_TEST_SUITE_P(Cuda, OpTest,
                         testing::Combine(testing::ValuesIn(cases::all_cases()),
                                          testing::Values(DType::f32, DType::bf16, DType::f16),
                                          testing::Values(kCuda)),
                         test_name);

}  // namespace
}  // namespace cairn::cases
