// What the emulated device has kernels for, and what it has not, as written down here.
#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "engine/ops.h"
#include "kernels/dispatch.h"
#include "tests/cases/op_run.h"
#include "tests/emu/ops/device.h"

namespace cairn {
namespace {

using kernels::all_slots;
using kernels::SlotBase;

// A slot that is not named here serves "fp32, fp64, bf16, fp16" (fp64 in test programs alone); what serves
// others, or none, stands here with its reason.
const std::map<std::string, std::string> kExceptions = {
    // Storage is moved whatever it is.
    {"fill_value", "fp32, fp64, bf16, fp16, uint8, int32, int64"},
    {"strided_copy", "fp32, fp64, bf16, fp16, uint8, int32, int64"},
    // Images are padded in the compute dtype.
    {"pad_channels", "fp32, bf16, fp16"},
    // The gradient of a bias lands in fp32; double has no use for that.
    {"column_sums", "fp32, bf16, fp16"},
    // Not written yet.
    {"adam_step", ""},
    {"avg_pool2d_backward", ""},
    {"avg_pool2d_forward", ""},
    {"batch_norm_backward", ""},
    {"batch_norm_forward", ""},
    {"batch_norm_inference", ""},
    {"batch_norm_inference_backward", ""},
    {"check_finite", ""},
    {"conv2d_backward_data", ""},
    {"conv2d_backward_weight", ""},
    {"conv2d_forward", ""},
    {"global_avg_pool_backward", ""},
    {"global_avg_pool_forward", ""},
    {"linear_backward_data", ""},
    {"linear_backward_weight", ""},
    {"linear_forward", ""},
    {"matmul", ""},
    {"max_pool2d_backward", ""},
    {"max_pool2d_forward", ""},
    {"preprocess", ""},
    {"sgd_step", ""},
};

TEST(EmulatedSlots, HolesAreTheWrittenOnes) {
  for (const SlotBase* slot : all_slots()) {
    std::string offered;
    for (int t = 0; t < kDTypeCount; ++t)
      if (slot->filled(DeviceType::cuda_emu, static_cast<DType>(t)))
        offered += (offered.empty() ? "" : ", ") + std::string(name_of(static_cast<DType>(t)));
    const auto exception = kExceptions.find(slot->name());
    EXPECT_EQ(offered, exception == kExceptions.end() ? "fp32, fp64, bf16, fp16" : exception->second)
        << slot->name();
    std::cout << "[cuda-emu] " << slot->name() << ": " << (offered.empty() ? "no kernel" : offered) << '\n';
  }
}

TEST(EmulatedSlots, CasesLeftOutHaveNoKernelInAnyDType) {
  for (const cases::OpCase& c : cases::all_cases()) {
    const std::string op = c.name.substr(0, c.name.find('/'));
    const auto& left_out = ops_without_kernels();
    if (std::count(left_out.begin(), left_out.end(), op) == 0) continue;
    for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16})
      EXPECT_THROW(cases::run_once(c, dtype, kEmulated), DTypeError)
          << c.name << " has a kernel by now: take it off the list of ops_without_kernels()";
  }
}

}  // namespace
}  // namespace cairn
