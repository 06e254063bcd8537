// Fills, conversions, copies, padding, dropout, images: what the op cases do not reach in every form.
#include <cstring>

#include "kernels/backend.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/pad_channels.h"
#include "kernels/dropout.h"
#include "kernels/pointwise.h"
#include "kernels/preprocess.h"
#include "tests/emu/kernels/kernel_run.h"

namespace cairn {
namespace {

using kernels::Write;

const OwnMemory kOwnMemory;

constexpr DType kFloating[] = {DType::f32, DType::f64, DType::bf16, DType::f16};
constexpr DType kAll[] = {DType::f32, DType::f64, DType::bf16, DType::f16, DType::u8, DType::i32, DType::i64};

/// Small whole numbers, which every dtype holds.
std::vector<double> whole_numbers(std::int64_t n) {
  std::vector<double> v(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<double>((i * 37 + 5) % 101);
  return v;
}
/// What a tensor of `t` holds of `values`, by the host's own conversions.
std::vector<double> held_by(DType t, std::vector<double> values) {
  for (double& v : values) {
    if (t == DType::f32) v = static_cast<double>(static_cast<float>(v));
    if (t == DType::bf16) v = static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(v))));
    if (t == DType::f16) v = static_cast<double>(static_cast<float>(Float16(static_cast<float>(v))));
  }
  return values;
}

template <class T>
Tensor of_type(const std::vector<double>& values) {
  std::vector<T> v(values.size());
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(values[i]);
  return from_values<T>({static_cast<std::int64_t>(v.size())}, v, kEmulated);
}
/// n whole numbers of any dtype, `shift` elements into their memory.
Tensor any_tensor(std::int64_t n, DType t, int shift) {
  std::vector<double> values = whole_numbers(n);
  values.insert(values.begin(), static_cast<std::size_t>(shift), 0.0);
  const Tensor whole = t == DType::u8    ? of_type<std::uint8_t>(values)
                       : t == DType::i32 ? of_type<std::int32_t>(values)
                       : t == DType::i64 ? of_type<std::int64_t>(values)
                                         : from_doubles({n + shift}, values, t, kEmulated);
  return whole.alias({n}, shift);
}

class MoveRun : public KernelRun, public testing::WithParamInterface<DType> {};
class FloatRun : public MoveRun {};
class StorageRun : public MoveRun {};

TEST_P(StorageRun, Fills) {
  for (const int shift : {0, 1})
    for (const std::int64_t n : {1, 37}) {
      const Tensor y = any_tensor(n, GetParam(), shift);
      call(kernels::fill_value, y.queue(), {y.inplace(), 7});
      expect("filled", y.view(), std::vector<double>(static_cast<std::size_t>(n), 7.0), 0);
    }
}

TEST_P(StorageRun, CopiesBoxes) {
  struct Box {
    const char* what;
    Shape shape, stride_x, stride_y;
    int shift;
  };
  // Rows in groups of 16 bytes, rows without, and the two ways round through a tile.
  for (const Box& b : {Box{"wide rows", {3, 32}, {48, 1}, {32, 1}, 0}, Box{"rows", {3, 7}, {9, 1}, {7, 1}, 1},
                       Box{"turned", {35, 37}, {1, 35}, {37, 1}, 0},
                       Box{"turned boxes", {2, 3, 5}, {15, 1, 3}, {15, 5, 1}, 1}})
    for (const Write write : {Write::assign, Write::add}) {
      const Tensor x = any_tensor(35 * 37 + 64, GetParam(), b.shift);
      const Tensor y = any_tensor(b.shape.numel(), GetParam(), b.shift);
      const std::vector<double> from = whole_numbers(x.numel()), before = whole_numbers(y.numel());
      call(kernels::strided_copy, y.queue(),
           {x.view(), y.inplace(), b.shape, b.stride_x, b.stride_y, 0, 0, write});
      std::vector<double> want(before.size());
      for (std::int64_t i = 0; i < b.shape.numel(); ++i) {
        std::int64_t rest = i, at_x = 0, at_y = 0;
        for (int axis = b.shape.rank - 1; axis >= 0; --axis) {
          at_x += rest % b.shape[axis] * b.stride_x[axis];
          at_y += rest % b.shape[axis] * b.stride_y[axis];
          rest /= b.shape[axis];
        }
        const auto to = static_cast<std::size_t>(at_y);
        want[to] = from[static_cast<std::size_t>(at_x)] + (write == Write::add ? before[to] : 0.0);
      }
      expect(b.what, y.view(), want, 0);  // sums of at most 200: exact in every dtype
    }
}
INSTANTIATE_TEST_SUITE_P(CudaEmu, StorageRun, testing::ValuesIn(kAll),
                         [](const auto& p) { return std::string(name_of(p.param)); });

class CastRun : public KernelRun, public testing::WithParamInterface<std::tuple<DType, DType>> {};

TEST_P(CastRun, RoundsToNearestEven) {
  const auto& [from, to] = GetParam();
  std::vector<double> values = eighths(21, 3);
  // Halves between neighbours of bf16 and of fp16, just above them, subnormal and least values; all are
  // fp32's.
  for (const double v : {1.0 + 0x1p-8, 1.0 + 3 * 0x1p-8, 1.0 + 0x1p-8 + 0x1p-23, 1.0 + 0x1p-11,
                         1.0 + 3 * 0x1p-11, 60001.0, 0x1p-24, 3 * 0x1p-25, -0x1p-14, -0.0, 0x1p-26})
    values.push_back(v);
  const auto n = static_cast<std::int64_t>(values.size());
  for (const int shift : {0, 1}) {
    const Tensor x = placed({n}, values, from, shift), y = placed({n}, eighths(n, 4), to, shift);
    const std::vector<double> held = held_by(from, values), before = eighths(n, 4);
    call(kernels::cast, x.queue(), {x.view(), y.inplace()});
    expect("cast", y.view(), held_by(to, held), 0);
    const Tensor z = placed({n}, before, to, shift);
    call(kernels::cast, x.queue(), {x.view(), z.inplace(), Write::add});
    std::vector<double> want(held.size());
    for (std::size_t i = 0; i < want.size(); ++i) want[i] = held[i] + before[i];
    // Two roundings: the sum's in fp32 (or double), and the result's.
    expect("added", z.view(), want, 2 * rounding_of(to));
  }
}
INSTANTIATE_TEST_SUITE_P(CudaEmu, CastRun,
                         testing::Combine(testing::ValuesIn(kFloating), testing::ValuesIn(kFloating)),
                         [](const auto& p) {
                           return std::string(name_of(std::get<0>(p.param))) + "_to_" +
                                  name_of(std::get<1>(p.param));
                         });

TEST_P(CastRun, PadsChannels) {
  const auto& [from, to] = GetParam();
  if (from == DType::f64 || to == DType::f64) GTEST_SKIP() << "channels are padded in the compute dtypes";
  for (const auto& [c, padded] : {std::pair<std::int64_t, std::int64_t>{3, 8}, {8, 3}})
    for (const Write write : {Write::assign, Write::add}) {
      const Tensor x = placed({5, c}, eighths(5 * c, 1), from, 0);
      const Tensor y = placed({5, padded}, eighths(5 * padded, 2), to, 0);
      std::vector<double> want = eighths(5 * padded, 2);
      for (std::int64_t i = 0; i < 5 * padded; ++i) {
        const std::int64_t row = i / padded, column = i % padded;
        double& w = want[static_cast<std::size_t>(i)];
        if (write == Write::assign) w = 0;
        if (column < c) w += eighths(5 * c, 1)[static_cast<std::size_t>(row * c + column)];
      }
      call(kernels::pad_channels, x.queue(), {x.view(), y.inplace(), write});
      expect("padded", y.view(), want, 0);  // eighths below 8: exact
    }
}

TEST_P(FloatRun, SumsColumns) {
  for (const auto& [rows, columns] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {9, 33}, {601, 3}})
    for (const Write write : {Write::assign, Write::add}) {
      const Tensor x = placed({rows, columns}, eighths(rows * columns), GetParam(), 0);
      const Tensor y = placed({columns}, eighths(columns, 5), DType::f32, 0);
      std::vector<double> want = eighths(columns, 5);
      if (write == Write::assign) want.assign(want.size(), 0.0);
      const std::vector<double> values = eighths(rows * columns);
      for (std::size_t i = 0; i < values.size(); ++i) want[i % want.size()] += values[i];
      call(kernels::column_sums, x.queue(), {.x = x.view(), .y = y.inplace(), .write = write});
      expect("column sums", y.view(), want, 0);  // eighths below 2^21: exact in fp32
    }
}

TEST_P(FloatRun, DropsOut) {
  const std::uint64_t stream = philox_stream(kStreamDropout, 3);
  constexpr std::uint64_t kSeed = 0x123456789abcdefull;
  constexpr float kP = 0.3f;
  for (const int shift : {0, 1})
    for (const std::int64_t first : {0, 3, 4093})
      for (const bool stepped : {false, true}) {
        constexpr std::int64_t n = 77;
        const std::vector<std::int64_t> step = {5};
        const Tensor x = placed({n}, eighths(n), GetParam(), shift),
                     y = placed({n}, eighths(n, 1), GetParam(), shift),
                     steps = from_values<std::int64_t>({1}, step, kEmulated);
        kernels::Dropout args{.x = x.view(),
                              .y = y.inplace(),
                              .p = kP,
                              .seed = kSeed,
                              .stream = stream,
                              .step = {},
                              .first_index = first};
        if (stepped) args.step = steps.view();
        call(kernels::dropout, x.queue(), args);
        std::vector<double> want = eighths(n);
        for (std::int64_t i = 0; i < n; ++i) {
          const auto at = static_cast<std::uint64_t>(first + i);
          const std::uint64_t of_step = stepped ? std::uint64_t{5} << 32 : 0;
          const bool kept = philox(kSeed, stream + of_step, at / 4).v[at % 4] >=
                            static_cast<std::uint32_t>(static_cast<double>(kP) * 0x1p32);
          double& w = want[static_cast<std::size_t>(i)];
          w = kept ? w / (1 - static_cast<double>(kP)) : 0.0;
        }
        // The factor and the product are rounded to fp32, the result to its dtype.
        expect("dropout", y.view(), want, rounding_of(GetParam()) + 3 * 0x1p-24);
      }
}

TEST_P(FloatRun, Preprocesses) {
  constexpr std::int64_t kImages = 3, kHeight = 3, kWidth = 5, kBytes = kHeight * kWidth * 3;
  const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(kImages * kBytes));
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(philox(6, 0, i).v[0]);
  const std::vector<std::uint8_t> flips = {0, 1, 0};
  const std::vector<std::int32_t> places = {2, 2, 0}, corners = {0, 1, 1, 0, 1, 1};
  const Tensor x = from_values<std::uint8_t>({kImages, kHeight, kWidth, 3}, pixels, kEmulated),
               flip = from_values<std::uint8_t>({kImages}, flips, kEmulated),
               index = from_values<std::int32_t>({kImages}, places, kEmulated),
               crop = from_values<std::int32_t>({kImages, 2}, corners, kEmulated);
  for (const int shift : {0, 1})
    for (const std::int64_t channels : {3, 8})
      for (const bool moves : {false, true}) {  // mirrored, gathered and one pixel smaller
        const std::int64_t h = moves ? kHeight - 1 : kHeight, w = moves ? kWidth - 1 : kWidth;
        const std::int64_t n = kImages * h * w * channels;
        const Tensor y = placed({kImages, h, w, channels}, eighths(n), GetParam(), shift);
        kernels::Preprocess args;
        args.x = x.view();
        args.y = y.inplace();
        std::copy_n(mean, 3, args.mean);
        std::copy_n(std, 3, args.std);
        if (moves) {
          args.flip = flip.view();
          args.index = index.view();
          args.crop = crop.view();
        }
        call(kernels::preprocess, x.queue(), args);
        std::vector<double> want;
        for (std::int64_t i = 0; i < n; ++i) {
          const std::int64_t c = i % channels, pixel = i / channels;
          const auto image = static_cast<std::size_t>(pixel / (h * w));
          std::int64_t row = pixel / w % h, column = pixel % w, source = static_cast<std::int64_t>(image);
          if (c >= 3) {
            want.push_back(0);
            continue;
          }
          if (moves) {
            if (flips[image] != 0) column = w - 1 - column;
            row += corners[2 * image];
            column += corners[2 * image + 1];
            source = places[image];
          }
          const auto at = static_cast<std::size_t>(source * kBytes + (row * kWidth + column) * 3 + c);
          want.push_back((pixels[at] / 255.0 - static_cast<double>(mean[c])) / static_cast<double>(std[c]));
        }
        // Quotient, difference and quotient are rounded, of values up to 1 / 0.224.
        expect("pixels", y.view(), want, rounding_of(GetParam()) + 8 * 0x1p-24);
      }
}
INSTANTIATE_TEST_SUITE_P(CudaEmu, FloatRun, testing::ValuesIn(kKernelDTypes),
                         [](const auto& p) { return std::string(name_of(p.param)); });

class SelfTestRun : public KernelRun {};
TEST_F(SelfTestRun, Passes) {  // it holds the device against the host by itself
  char text[256] = "";
  EXPECT_EQ(cairn_cuda_self_test(0, text, sizeof text), 0) << text;
}

}  // namespace
}  // namespace cairn
