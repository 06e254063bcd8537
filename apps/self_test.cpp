#include "apps/self_test.h"

#include <cmath>
#include <span>
#include <vector>

#include "apps/console.h"
#include "engine/ops.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

using Values = std::vector<double>;

constexpr std::int64_t kN = 2, kSide = 8, kIn = 3, kOut = 4, kClasses = 5, kHalf = kSide / 2;

// Numbers in [-1, 1] without a pattern that a wrong stride could hide in.
Tensor input(const Shape& shape, double phase, Device device) {
  Values values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(1.7 * static_cast<double>(i) + phase);
  return from_doubles(shape, values, DType::f32, device);
}

// Fp32 sums of at most 128 products of numbers around 1.
constexpr double kTolerance = 1e-4;

void compare(const char* what, const Tensor& got, const Values& want) {
  const Values values = got.to_doubles();
  if (values.size() != want.size()) throw Error(std::string(what) + " has another size");
  for (std::size_t i = 0; i < want.size(); ++i)
    if (!(std::abs(values[i] - want[i]) <= kTolerance * std::max(1.0, std::abs(want[i]))))
      throw Error(std::string(what) + " is wrong: element " + std::to_string(i) + " is " +
                  std::to_string(values[i]) + ", expected " + std::to_string(want[i]));
}

// 3x3, padding 1, [N,S,S,I] and [K,3,3,I].
Values plain_conv(const Values& x, const Values& w) {
  Values y;
  for (std::int64_t n = 0; n < kN; ++n)
    for (std::int64_t p = 0; p < kSide; ++p)
      for (std::int64_t q = 0; q < kSide; ++q)
        for (std::int64_t k = 0; k < kOut; ++k) {
          double sum = 0;
          for (std::int64_t r = 0; r < 3; ++r)
            for (std::int64_t s = 0; s < 3; ++s) {
              const std::int64_t h = p + r - 1, v = q + s - 1;
              if (h < 0 || h >= kSide || v < 0 || v >= kSide) continue;
              for (std::int64_t c = 0; c < kIn; ++c)
                sum += x[((n * kSide + h) * kSide + v) * kIn + c] * w[((k * 3 + r) * 3 + s) * kIn + c];
            }
          y.push_back(sum);
        }
  return y;
}

Values plain_norm_relu(Values x) {
  constexpr double kCount = kN * kSide * kSide;
  for (std::int64_t c = 0; c < kOut; ++c) {
    double mean = 0, variance = 0;
    for (std::size_t i = c; i < x.size(); i += kOut) mean += x[i] / kCount;
    for (std::size_t i = c; i < x.size(); i += kOut) variance += (x[i] - mean) * (x[i] - mean) / kCount;
    for (std::size_t i = c; i < x.size(); i += kOut)
      x[i] = std::max(0.0, (x[i] - mean) / std::sqrt(variance + 1e-5));
  }
  return x;
}

// 2x2 windows, into [N, C*H*W] in channel-height-width order.
Values plain_pool_flatten(const Values& x) {
  Values y;
  for (std::int64_t n = 0; n < kN; ++n)
    for (std::int64_t c = 0; c < kOut; ++c)
      for (std::int64_t p = 0; p < kHalf; ++p)
        for (std::int64_t q = 0; q < kHalf; ++q) {
          const auto at = [&](std::int64_t r, std::int64_t s) {
            return x[((n * kSide + 2 * p + r) * kSide + 2 * q + s) * kOut + c];
          };
          y.push_back(std::max(std::max(at(0, 0), at(0, 1)), std::max(at(1, 0), at(1, 1))));
        }
  return y;
}

void test(Device device) {
  constexpr std::int64_t kFlat = kOut * kHalf * kHalf;
  const Tensor x = input({kN, kSide, kSide, kIn}, 0.1, device);
  const Tensor filter = input({kOut, 3, 3, kIn}, 0.5, device);
  Tensor weight = input({kClasses, kFlat}, 0.9, device);
  weight.set_requires_grad();
  const BatchNormTensors norm{full({kOut}, 1, DType::f32, device), zeros({kOut}, DType::f32, device),
                              zeros({kOut}, DType::f32, device), full({kOut}, 1, DType::f32, device)};
  const std::vector<std::int32_t> labels{1, 3};

  const Tensor convolved = conv2d(x, filter, {}, {.padding_h = 1, .padding_w = 1});
  const Values conv_wanted = plain_conv(x.to_doubles(), filter.to_doubles());
  compare("conv2d", convolved, conv_wanted);
  const Tensor normed = batch_norm(convolved, norm, {}, Activation::relu);
  const Values norm_wanted = plain_norm_relu(conv_wanted);
  compare("batch_norm", normed, norm_wanted);
  const Tensor flat = flatten(max_pool2d(
      normed, {.kernel_h = 2, .kernel_w = 2, .stride_h = 2, .stride_w = 2, .padding_h = 0, .padding_w = 0}));
  const Values flat_wanted = plain_pool_flatten(norm_wanted);
  compare("max_pool2d", flat, flat_wanted);
  const Tensor logits = linear(flat, weight);
  const Values w = weight.to_doubles();
  Values logits_wanted;
  for (std::int64_t n = 0; n < kN; ++n)
    for (std::int64_t k = 0; k < kClasses; ++k) {
      double sum = 0;
      for (std::int64_t i = 0; i < kFlat; ++i) sum += flat_wanted[n * kFlat + i] * w[k * kFlat + i];
      logits_wanted.push_back(sum);
    }
  compare("linear", logits, logits_wanted);

  softmax_cross_entropy(logits, from_values<std::int32_t>({kN}, labels, device)).backward();
  // d loss / d weight[k] = sum over n of (softmax - one-hot)[n,k] / N * flat[n].
  Values gradient(static_cast<std::size_t>(kClasses * kFlat));
  for (std::int64_t n = 0; n < kN; ++n) {
    double sum = 0;
    for (std::int64_t k = 0; k < kClasses; ++k) sum += std::exp(logits_wanted[n * kClasses + k]);
    for (std::int64_t k = 0; k < kClasses; ++k) {
      const double d = (std::exp(logits_wanted[n * kClasses + k]) / sum - (labels[n] == k ? 1 : 0)) / kN;
      for (std::int64_t i = 0; i < kFlat; ++i) gradient[k * kFlat + i] += d * flat_wanted[n * kFlat + i];
    }
  }
  compare("the gradient of linear and softmax_cross_entropy", weight.grad(), gradient);
}

}  // namespace

std::string self_test(Device device) {
  try {
    test(device);
    return {};
  } catch (const std::exception& error) {
    return one_line(error.what());
  }
}

}  // namespace cairn::app
