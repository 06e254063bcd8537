// What the emulated device has kernels for, and what it has not, as written down here.
#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "kernels/dispatch.h"

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
    // Optional: CUDA's convolutions take filters as they are.
    {"conv2d_pack", ""},
    {"linear_pack", ""},
    // Images are padded in the compute dtype.
    {"pad_channels", "fp32, bf16, fp16"},
    // Parameters and their optimiser's state are fp32 whatever the compute dtype is.
    {"adam_step", "fp32, fp64"},
    {"batch_norm_statistics", "fp32, fp64"},
    {"ema_step", "fp32, fp64"},
    {"sgd_step", "fp32, fp64"},
    {"settle_step", "fp32"},
    {"keep_buffers", "fp32"},
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

}  // namespace
}  // namespace cairn
