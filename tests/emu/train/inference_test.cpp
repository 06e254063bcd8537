// The paths of evaluation, prediction and serving: images sent batch after batch from memory that is used
// again at once, logits read back while later work is under way.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "apps/prediction.h"
#include "kernels/emu/runtime.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

class Inference : public NoReportsTest {
 protected:
  void TearDown() override {
    emu::set_schedule(emu::Schedule::eager);
    NoReportsTest::TearDown();
  }
};

constexpr int kBatches = 3;

std::unique_ptr<nn::Module> evaluated_net(Device device) {
  auto net = small_net();
  net->to(device);
  net->eval();
  return net;
}

// The logits of several batches from one buffer, with mirror images as --tta flip asks for them.
std::vector<double> logits_of_batches(nn::Module& net, Device device) {
  const NoGrad no_grad;
  std::vector<std::uint8_t> buffer;
  std::vector<Tensor> logits;
  for (std::uint64_t number = 0; number < kBatches; ++number)
    for (const bool mirrored : {false, true}) {
      const TestBatch batch = make_batch(number == kBatches - 1 ? 1 : 4, number);
      buffer = batch.pixels;
      logits.push_back(
          app::forward_images(net, buffer.data(), batch.images(), kSize, DType::f32, {}, device, mirrored));
      std::fill(buffer.begin(), buffer.end(), std::uint8_t{0x5A});
    }
  std::vector<double> values;
  for (const Tensor& l : logits) {
    const std::vector<double> v = l.to_doubles();
    values.insert(values.end(), v.begin(), v.end());
  }
  return values;
}

TEST_F(Inference, GivesTheCpusLogitsInEverySchedule) {
  const std::vector<double> want = logits_of_batches(*evaluated_net({}), {});
  const auto net = evaluated_net(kEmulated);
  std::vector<double> first;
  for (std::uint64_t seed = 0; seed <= 10; ++seed) {
    emu::set_schedule(seed == 0 ? emu::Schedule::late : emu::Schedule::random, seed);
    const std::vector<double> got = logits_of_batches(*net, kEmulated);
    ASSERT_EQ(got.size(), want.size());
    // Sums of at most 128 products of values of order 1 (the linear layer's), added in another order.
    for (std::size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(got[i], want[i], 128 * 0x1p-24 * std::max(1.0, std::abs(want[i]))) << "schedule " << seed;
    if (first.empty()) first = got;
    EXPECT_EQ(got, first) << "schedule " << seed;
  }
}

// `cairn serve` computes in a thread that is not the one that loaded the model.
TEST_F(Inference, AModelLoadedInOneThreadAnswersInAnother) {
  emu::set_schedule(emu::Schedule::late);
  const auto net = evaluated_net(kEmulated);
  const std::vector<double> here = logits_of_batches(*net, kEmulated);
  std::vector<double> there;
  std::thread([&] { there = logits_of_batches(*net, kEmulated); }).join();
  EXPECT_EQ(there, here);
}

}  // namespace
}  // namespace cairn
