// The pieces of batch norm over several processes, each by itself: what the op cases, which go through all of
// them, do not reach in every form.
#include "kernels/sync_batch_norm.h"

#include "tests/emu/kernels/kernel_run.h"

namespace cairn {
namespace {

const OwnMemory kOwnMemory;

class StatisticsRun : public KernelRun {};
class SyncBatchNormRun : public KernelRun, public testing::WithParamInterface<DType> {};

/// Two blocks' rows and more, whole groups of 16 bytes and single channels, no rows.
constexpr std::int64_t kRowsAndChannels[][2] = {{3000, 9}, {5, 16}, {1, 1}, {0, 8}};

TEST_P(SyncBatchNormRun, Moments) {
  for (const auto& [rows, channels] : kRowsAndChannels)
    for (const int shift : {0, 1}) {
      const std::vector<double> values = eighths(rows * channels);
      const Tensor x = placed({rows, channels}, values, GetParam(), shift);
      const Tensor sums = placed({2 * channels + 1}, eighths(2 * channels + 1), DType::f64, 0);
      call(kernels::channel_moments, x.queue(), {.x = x.view(), .sums = sums.out()});
      const auto c = static_cast<std::size_t>(channels);
      std::vector<double> first(c), second(c);
      for (std::size_t i = 0; i < values.size(); ++i) {
        first[i % c] += values[i];
        second[i % c] += values[i] * values[i];
      }
      // Sums of four eighths are exact in fp32, squares about their mean are not.
      expect("sums", sums.alias({channels}).view(), first, 0);
      expect("squares", sums.alias({channels}, channels).view(), second, 0x1p-22);
      expect("rows", sums.alias({1}, 2 * channels).view(), {static_cast<double>(rows)}, 0);
    }
}

TEST_F(StatisticsRun, NoChannelsHaveNoValues) {
  const Tensor x = zeros({4, 0}, DType::f32, kEmulated), sums = placed({1}, {3.0}, DType::f64, 0);
  call(kernels::channel_moments, x.queue(), {.x = x.view(), .sums = sums.out()});
  expect("rows", sums.view(), {0.0}, 0);
}

// Sums of 6 values and of 1, whose unbiased variance is taken as 0; a variance that rounding made negative.
TEST_F(StatisticsRun, Statistics) {
  constexpr float kMomentum = 0.3f;
  for (const double n : {6.0, 1.0})
    for (const bool running : {true, false}) {
      const std::vector<double> mean = {0.5, -3, 1e3}, var = {n > 1 ? 2.25 : 0.0, 0, 0},
                                before = {0.5, 0.25, -2}, spread = {1, 2, 3};
      std::vector<double> totals = {0.5 * n, -3 * n, 1e3 * n};
      for (std::size_t c = 0; c < 3; ++c)
        totals.push_back((var[c] + mean[c] * mean[c]) * n - (c == 2 ? 0x1p-20 : 0));
      totals.push_back(n);
      const auto unset = [] { return placed({3}, eighths(3, 4), DType::f32, 0); };
      const Tensor sums = placed({7}, totals, DType::f64, 0), got_mean = unset(), got_var = unset(),
                   running_mean = placed({3}, before, DType::f32, 0),
                   running_var = placed({3}, spread, DType::f32, 0);
      kernels::BatchNormStatistics args{.sums = sums.view(),
                                        .mean = got_mean.out(),
                                        .var = got_var.out(),
                                        .running_mean = {},
                                        .running_var = {},
                                        .momentum = kMomentum};
      if (running) {
        args.running_mean = running_mean.inplace();
        args.running_var = running_var.inplace();
      }
      call(kernels::batch_norm_statistics, sums.queue(), args);
      expect("mean", got_mean.view(), mean, 0x1p-24);
      expect("variance", got_var.view(), var, 0x1p-24);
      std::vector<double> want_mean = before, want_var = spread;
      const double m = running ? static_cast<double>(kMomentum) : 0;
      for (std::size_t c = 0; c < 3; ++c) {
        want_mean[c] = (1 - m) * before[c] + m * mean[c];
        want_var[c] = (1 - m) * spread[c] + m * var[c] * n / std::max(n - 1, 1.0);
      }
      expect("running mean", running_mean.view(), want_mean, 0x1p-24);
      expect("running variance", running_var.view(), want_var, 0x1p-24);
    }
}

TEST_P(SyncBatchNormRun, Correction) {
  constexpr float kEps = 1e-3f;
  for (const auto& [rows, channels] : kRowsAndChannels)
    for (const int shift : {0, 1}) {
      const auto c = static_cast<std::size_t>(channels);
      const std::int64_t n = rows * channels;
      const double count = 2.0 * static_cast<double>(rows) + 3;  // another process's rows among them
      const std::vector<double> x = eighths(n), dx = eighths(n, 1), gamma = eighths(channels, 2),
                                mean = eighths(channels, 3), dgamma = eighths(channels, 4),
                                dbeta = eighths(channels, 5);
      std::vector<double> var = eighths(channels, 6), totals(2 * c, 0.0), want = dx;
      for (double& v : var) v *= v;
      totals.push_back(count);
      for (std::size_t i = 0; i < want.size(); ++i) {
        const std::size_t k = i % c;
        const double r = 1 / std::sqrt(var[k] + static_cast<double>(kEps));
        want[i] -= gamma[k] * r / count * (dbeta[k] + (x[i] - mean[k]) * r * dgamma[k]);
      }
      const auto parameter = [&](const std::vector<double>& v) {
        return placed({static_cast<std::int64_t>(v.size())}, v, DType::f32, shift);
      };
      const Tensor tx = placed({rows, channels}, x, GetParam(), shift),
                   tdx = placed({rows, channels}, dx, GetParam(), shift), tgamma = parameter(gamma),
                   tmean = parameter(mean), tvar = parameter(var), tdgamma = parameter(dgamma),
                   tdbeta = parameter(dbeta), sums = placed({2 * channels + 1}, totals, DType::f64, 0);
      call(kernels::batch_norm_correction, tx.queue(),
           {.x = tx.view(),
            .gamma = tgamma.view(),
            .mean = tmean.view(),
            .var = tvar.view(),
            .dgamma = tdgamma.view(),
            .dbeta = tdbeta.view(),
            .sums = sums.view(),
            .dx = tdx.inplace(),
            .eps = kEps});
      // Two factors, a product and a sum are rounded to fp32, the result to its dtype.
      expect("dx", tdx.view(), want, rounding_of(GetParam()) + 4 * 0x1p-24);
    }
}
INSTANTIATE_TEST_SUITE_P(CudaEmu, SyncBatchNormRun, testing::ValuesIn(kKernelDTypes),
                         [](const auto& p) { return std::string(name_of(p.param)); });

}  // namespace
}  // namespace cairn
