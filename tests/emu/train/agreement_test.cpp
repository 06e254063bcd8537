// The models on the emulated device against the CPU backend, each step begun from the CPU's state.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>

#include "engine/backend.h"
#include "tests/emu/train/training.h"

namespace cairn {
namespace {

constexpr std::int64_t kImages = 8;

bool through_vendor_libraries() {
  return std::ranges::any_of(backend_parts(),
                             [](const BackendPart& p) { return p.name == "cuDNN" && p.works; });
}
// The plain convolutions take three to ten times as long.
int steps() { return through_vendor_libraries() ? 2 : 1; }

std::string where() {
  return std::string("[") + name_of(kCuda.type) + (through_vendor_libraries() ? "] " : ", plain kernels] ");
}

using Gradients = std::vector<std::vector<double>>;  // by parameter
Gradients gradients(const Training& training, double scale = 1) {
  Gradients all;
  for (const auto& slice : training.parameters->slices()) {
    all.push_back(slice.parameter.tensor.grad().to_doubles());
    for (double& v : all.back()) v /= scale;
  }
  return all;
}

// ||a - b|| / ||b||
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}
std::vector<double> distances(const Gradients& a, const Gradients& b) {
  std::vector<double> all;
  for (std::size_t i = 0; i < a.size(); ++i) all.push_back(distance(a[i], b[i]));
  return all;
}
double worst(const std::vector<double>& values) { return *std::ranges::max_element(values); }
double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

// The same state but for one rounding of each parameter, up or down.
void round_once_more(Training& training) {
  std::vector<float> values = training.parameters->values().to_vector<float>();
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] =
        std::nextafter(values[i], (philox(1, 2, i / 128).v[i / 32 % 4] >> i % 32 & 1u) != 0 ? 1e9f : -1e9f);
  training.parameters->values().copy_from<float>(values);
}

optim::OptimizerOptions sgd() { return {.kind = optim::OptimizerKind::sgd, .weight_decay = 1e-4f}; }

class Agreement : public testing::TestWithParam<const char*> {
 protected:
  bool has_batch_norm() const { return std::string(GetParam()) != "model_cnn"; }
};

// Two right programs in fp32 differ by roundings, which batch norm amplifies, and, where a value close to 0
// falls on the other side of a ReLU, by one image's whole gradient there. So each tensor lies within what
// two layouts in PyTorch lie apart (6e-2 the worst, 4e-2 the median; without batch norm 7e-4), and, since
// that allows much, the median tensor within four times what one rounding of each parameter does to the CPU's
// own gradients: a parameter meets about that many further roundings on its way (product, sum, normalisation,
// activation).
TEST_P(Agreement, Fp32LossAndGradients) {
  Training cpu(GetParam(), {}, DType::f32, sgd()), twin(GetParam(), {}, DType::f32, sgd());
  Training emulated(GetParam(), kCuda, DType::f32, sgd());
  for (int step = 0; step < steps(); ++step) {
    const TestBatch batch = make_batch(kImages, static_cast<std::uint64_t>(step));
    emulated.begin_from(cpu);
    twin.begin_from(cpu);
    round_once_more(twin);
    const double loss = emulated.backward(batch).loss.item();
    (void)twin.backward(batch);
    const double want = cpu.backward(batch).loss.item();
    EXPECT_NEAR(loss, want, 1e-5);
    const std::vector<double> apart = distances(gradients(emulated), gradients(cpu));
    const std::vector<double> spread = distances(gradients(twin), gradients(cpu));
    EXPECT_LE(worst(apart), has_batch_norm() ? 6e-2 : 7e-4);
    EXPECT_LE(median(apart), 4 * median(spread));
    std::cout << where() << GetParam() << " fp32 step " << step << ": loss off by " << std::abs(loss - want)
              << ", gradients by " << median(apart) << " (median), " << worst(apart)
              << " (worst); one rounding of the parameters: " << median(spread) << ", " << worst(spread)
              << '\n';
    cpu.optimizer->step(0.01f);
  }
}

// The mean over images of the distance between their logits. The loss of an image changes by at most sqrt(2)
// times as much: its gradient is softmax - onehot.
double logits_apart(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to_doubles(), y = b.to_doubles();
  double sum = 0;
  for (std::int64_t n = 0; n < kImages; ++n) {
    double squares = 0;
    for (std::int64_t k = n * kClasses; k < (n + 1) * kClasses; ++k) squares += (x[k] - y[k]) * (x[k] - y[k]);
    sum += std::sqrt(squares);
  }
  return sum / static_cast<double>(kImages);
}

// How far 16 bits lead from fp32 is measured on the CPU, in bf16, at the same state. Another program that
// rounds as often lies about as far off: twice as far is the bound. With fp16's three more bits a rounding is
// an eighth; but where it decides a ReLU or a maximum, a whole gradient changes, and the number of those
// falls to an eighth, their norm to its root. The loss of an image follows its logits (above).
TEST_P(Agreement, SixteenBitLossAndGradients) {
  Training exact(GetParam(), {}, DType::f32, sgd()), cpu(GetParam(), {}, DType::bf16, sgd());
  for (const DType dtype : {DType::bf16, DType::f16}) {
    Training emulated(GetParam(), kCuda, dtype, sgd());
    const double scale = dtype == DType::f16 ? 1024 : 1;
    const double share = dtype == DType::f16 ? std::sqrt(1.0 / 8) : 1;
    for (int step = 0; step < (has_batch_norm() ? 1 : 2); ++step) {
      const TestBatch batch = make_batch(kImages, static_cast<std::uint64_t>(step));
      cpu.begin_from(exact);
      emulated.begin_from(exact);
      const auto want = exact.backward(batch), own = cpu.backward(batch);
      const auto got = emulated.backward(batch, scale);
      const double bound = 2 * share * logits_apart(own.logits, want.logits);
      const double loss_off = std::abs(got.loss.item() - want.loss.item());
      EXPECT_LE(logits_apart(got.logits, want.logits), bound);
      EXPECT_LE(loss_off, std::sqrt(2.0) * bound);
      const std::vector<double> apart = distances(gradients(emulated, scale), gradients(exact));
      const std::vector<double> spread = distances(gradients(cpu), gradients(exact));
      EXPECT_LE(median(apart), 2 * share * median(spread));
      EXPECT_LE(worst(apart), 2 * share * worst(spread));
      std::cout << where() << GetParam() << ' ' << name_of(dtype) << " step " << step << ": loss off by "
                << loss_off << " (bound " << std::sqrt(2.0) * bound << "), gradients by " << median(apart)
                << " (median), " << worst(apart) << " (worst); the CPU's bf16 by " << median(spread) << ", "
                << worst(spread) << '\n';
      exact.optimizer->step(0.01f);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Agreement, testing::ValuesIn(kModels));

// Without batch norm nothing amplifies the roundings: PyTorch's two layouts stay within 9e-6 and 2e-5.
// Dropout is on: a mask of other bits would be seen at once.
void follow(const optim::OptimizerOptions& options, float lr) {
  Training cpu("model_cnn", {}, DType::f32, options), emulated("model_cnn", kCuda, DType::f32, options);
  double largest = 0;
  for (std::uint64_t step = 0; step < 20; ++step) {
    const TestBatch batch = make_batch(kImages / 2, step);
    const double want = cpu.step(batch, lr).item(), got = emulated.step(batch, lr).item();
    EXPECT_NEAR(got, want, 1e-4) << "step " << step;
    largest = std::max(largest, std::abs(got - want));
  }
  std::cout << where() << "model_cnn, 20 steps: loss off by " << largest << " at most\n";
}
TEST(Following, ModelCnnWithSgd) {
  follow({.kind = optim::OptimizerKind::sgd, .weight_decay = 1e-4f, .momentum = 0.9f}, 0.005f);
}
TEST(Following, ModelCnnWithAdam) { follow({.kind = optim::OptimizerKind::adam}, 2e-4f); }

}  // namespace
}  // namespace cairn
