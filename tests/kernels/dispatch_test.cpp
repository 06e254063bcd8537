#include "kernels/dispatch.h"

#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/pointwise.h"

namespace cairn::kernels {
namespace {

struct ProbeArgs {
  DType t = DType::f32;
  DType dtype() const { return t; }
};
constinit KernelSlot<ProbeArgs> probe("probe");
Status probe_run(const Queue&, const ProbeArgs&) { return {}; }

TEST(KernelSlot, AnEmptyOneNamesWhatThereIs) {
  Queue queue;
  Status status = probe(queue, {DType::f16});
  EXPECT_EQ(status.code(), Status::Code::no_kernel);
  EXPECT_EQ(status.message(), "[probe] no fp16 kernel on device 'cpu'; available: none");
  probe.fill(DeviceType::cpu, DType::f32, &probe_run);
  probe.fill(DeviceType::cpu, DType::bf16, &probe_run);
  status = probe(queue, {DType::f16});
  EXPECT_EQ(status.message(), "[probe] no fp16 kernel on device 'cpu'; available: fp32, bf16");
  EXPECT_TRUE(probe(queue, {DType::bf16}).ok());
  queue.device.type = DeviceType::cuda;
  EXPECT_EQ(probe(queue, {DType::f32}).message(), "[probe] no fp32 kernel on device 'cuda'; available: none");

  const auto before = probe.fill(DeviceType::cpu, DType::f32, nullptr);
  EXPECT_EQ(before.run, &probe_run);
  EXPECT_FALSE(probe.filled(DeviceType::cpu, DType::f32));
  EXPECT_FALSE(probe(Queue(), {DType::f32}).ok());
  probe.fill(DeviceType::cpu, DType::f32, before.run);
  EXPECT_TRUE(probe(Queue(), {DType::f32}).ok());
}

TEST(KernelSlot, AnUnservedTypeIsAnErrorOfTheRealSlotsToo) {
  const Status status = relu_forward(Queue(), {{nullptr, DType::f16, {1}}, {}});
  EXPECT_EQ(status.message(), "[relu_forward] no fp16 kernel on device 'cpu'; available: fp32, fp64, bf16");
}

TEST(KernelSlot, AllAreListedOnceInOrder) {
  std::vector<std::string> names;
  for (const SlotBase* slot : all_slots()) names.push_back(slot->name());
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  EXPECT_THAT(names,
              testing::IsSupersetOf({"relu_forward", "reduce", "dropout", "softmax", "sgd_step", "cast"}));
}

// What each slot offers on the CPU, in this program that has the double kernels of the gradient checks beside
// the product's. A slot that is not named here serves "fp32, fp64, bf16"; holes other than fp16 (storage only
// on the CPU) and the integers stand here with their reason.
const std::map<std::string, std::string> kCpuExceptions = {
    // Storage is moved and converted whatever it is.
    {"cast", "fp32, fp64, bf16, fp16"},
    {"fill_value", "fp32, fp64, bf16, fp16, uint8, int32, int64"},
    {"strided_copy", "fp32, fp64, bf16, fp16, uint8, int32, int64"},
    // An optional layout of the product's filters: the plain kernels in double have none.
    {"conv2d_pack", "fp32, bf16"},
    {"linear_pack", "fp32, bf16"},
    // Parameters are fp32 whatever the compute dtype is.
    {"adam_step", "fp32, fp64"},
    {"batch_norm_statistics", "fp32, fp64"},
    {"ema_step", "fp32, fp64"},
    {"sgd_step", "fp32, fp64"},
    // What guards a step keeps buffers of the product, which are fp32; gradient checks take no guarded step.
    {"keep_buffers", "fp32"},
    {"settle_step", "fp32"},
};

TEST(KernelSlot, HolesOnTheCpuAreTheWrittenOnes) {
  for (const SlotBase* slot : all_slots()) {
    if (std::string(slot->name()) == "probe") continue;
    std::string offered;
    for (int t = 0; t < kDTypeCount; ++t)
      if (slot->filled(DeviceType::cpu, static_cast<DType>(t)))
        offered += (offered.empty() ? "" : ", ") + std::string(name_of(static_cast<DType>(t)));
    const auto exception = kCpuExceptions.find(slot->name());
    EXPECT_EQ(offered, exception == kCpuExceptions.end() ? "fp32, fp64, bf16" : exception->second)
        << slot->name();
  }
}

TEST(Device, Names) {
  EXPECT_EQ(to_string(Device{}), "cpu");
  EXPECT_EQ(to_string(Device{DeviceType::cuda, 1}), "cuda:1");
  EXPECT_EQ(to_string(Device{DeviceType::cuda_emu, 0}), "cuda-emu:0");
}

}  // namespace
}  // namespace cairn::kernels
