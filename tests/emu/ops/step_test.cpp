// What a step of training asks of the CUDA runtime, read from the stand-in's record: once it is warm, no
// memory and no wait. Its results do not depend on when and in what order queued work runs.
#include <gtest/gtest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/tensor.h"
#include "kernels/device.h"
#include "kernels/emu/runtime.h"
#include "kernels/philox.h"
#include "kernels/pointwise.h"
#include "kernels/reduce.h"
#include "tests/emu/ops/device.h"
#include "tests/emu/schedules.h"

namespace cairn {
namespace {

constexpr std::int64_t kImages = 6, kFeatures = 40;

// Every kind of work that a step queues: uploads, kernels with scratch, gradients that add, a norm.
class Net {
 public:
  Net() : grads_(zeros({2, kFeatures}, DType::f32, kEmulated)) {
    for (int i = 0; i < 2; ++i) {
      parameters_[i] = full({kFeatures}, 0.5 + i, DType::f32, kEmulated);
      parameters_[i].set_requires_grad();
      parameters_[i].bind_grad(grads_.alias({kFeatures}, i * kFeatures));
    }
  }

  // The loss, left on the device.
  Tensor step(std::int64_t number) {
    step_number_.copy_from<std::int64_t>(std::span(&number, 1));
    std::vector<std::int32_t> labels;
    for (std::int64_t n = 0; n < kImages; ++n)
      labels.push_back(static_cast<std::int32_t>((number + 7 * n) % kFeatures));
    std::vector<float> pixels(static_cast<std::size_t>(kImages * kFeatures));
    for (std::size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = uniform_float(philox(3, static_cast<std::uint64_t>(number), i).v[0]) - 0.5f;
    const Tensor x = from_values<float>({kImages, kFeatures}, pixels, kEmulated);
    for (Tensor& p : parameters_) p.zero_grad();
    const Tensor h = relu(add(mul(x, parameters_[0]), parameters_[1]));
    DropoutKey key;
    key.seed = 5;
    key.stream = philox_stream(kStreamDropout, 0);
    key.step = step_number_;
    const Tensor logits = mul(dropout(h, 0.25f, key), parameters_[0]);
    const Tensor loss =
        softmax_cross_entropy(logits, from_values<std::int32_t>({kImages}, labels, kEmulated), {});
    loss.backward();
    call(kernels::l2_norm, grads_.queue(), {grads_.view(), norm_.inplace()});
    for (const Tensor& p : parameters_)
      call(kernels::affine, p.queue(), {p.grad().view(), p.inplace(), -0.125f, 0.0f, kernels::Write::add});
    return loss;
  }
  std::vector<double> state() const {
    std::vector<double> all = parameters_[0].to_doubles();
    for (const Tensor& t : {parameters_[1], norm_})
      for (const double v : t.to_doubles()) all.push_back(v);
    return all;
  }

 private:
  Tensor parameters_[2];
  Tensor grads_;
  Tensor norm_ = zeros({1}, DType::f32, kEmulated);
  Tensor step_number_ = from_values<std::int64_t>({1}, std::vector<std::int64_t>{0}, kEmulated);
};

class EmulatedStep : public NoReportsTest {
 protected:
  void TearDown() override {
    emu::set_schedule(emu::Schedule::eager);
    NoReportsTest::TearDown();
  }
};

TEST_F(EmulatedStep, WarmItAllocatesNothingAndWaitsForNothing) {
  Net net;
  for (std::int64_t i = 0; i < 3; ++i) (void)net.step(i);
  const std::int64_t blocks = memory_stats(kEmulated).device_allocations;
  emu::reset_call_counts();
  for (std::int64_t i = 3; i < 6; ++i) (void)net.step(i);
  const emu::CallCounts counts = emu::call_counts();
  EXPECT_EQ(counts.allocations, 0);
  EXPECT_EQ(counts.frees, 0);
  EXPECT_EQ(counts.synchronizations, 0);
  EXPECT_EQ(memory_stats(kEmulated).device_allocations, blocks);
  EXPECT_GE(counts.launches, 3 * 10);
  EXPECT_EQ(counts.copies, 3 * 3);  // step number, labels, pixels
}

// What a copy from the host has taken over may be changed at once; pinned memory is read later.
TEST_F(EmulatedStep, UploadsTakeOverPageableMemoryOnly) {
  const kernels::DeviceApi& api = *kernels::device_api(DeviceType::cuda_emu);
  emu::set_schedule(emu::Schedule::late);
  std::vector<float> pageable = {1, 2, 3};
  const Tensor a = from_values<float>({3}, pageable, kEmulated);
  pageable = {7, 8, 9};
  EXPECT_EQ(a.to_vector<float>(), (std::vector<float>{1, 2, 3}));

  void* memory = nullptr;
  check(api.allocate_host(sizeof(float), &memory));
  auto* const pinned = static_cast<float*>(memory);
  const Tensor b = empty({1}, DType::f32, kEmulated);
  *pinned = 1;
  check(api.copy(b.queue(), b.inplace().data, pinned, sizeof(float), kernels::CopyKind::host_to_device));
  *pinned = 2;
  EXPECT_EQ(b.item(), 2.0);
  check(api.release_host(memory));
}

TEST_F(EmulatedStep, NoScheduleOfQueuedWorkChangesABit) {
  const auto run = [] {
    Net net;
    for (std::int64_t i = 0; i < 4; ++i) (void)net.step(i);
    return net.state();
  };
  const std::vector<double> want = run();
  emu::set_schedule(emu::Schedule::late);
  EXPECT_EQ(run(), want);
  for (std::uint64_t seed = 1; seed <= schedules(); ++seed) {
    emu::set_schedule(emu::Schedule::random, seed);
    EXPECT_EQ(run(), want) << seed;
  }
}

}  // namespace
}  // namespace cairn
