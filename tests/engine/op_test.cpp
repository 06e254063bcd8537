// The table of cases on the CPU backend, in fp64, fp32 and bf16.
#include "tests/cases/op_driver.h"

namespace cairn::cases {
namespace {

INSTANTIATE_TEST_SUITE_P(Cpu, OpTest,
                         testing::Combine(testing::ValuesIn(all_cases()),
                                          testing::Values(DType::f64, DType::f32, DType::bf16),
                                          testing::Values(Device{})),
                         test_name);

}  // namespace
}  // namespace cairn::cases
