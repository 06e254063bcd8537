// The rungs on the CPU. x is [rows, C]: rows = N*H*W, channels side by side in memory.
#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/ladder/batch_norm.h"
#include "kernels/cpu/parallel.h"

namespace cairn::bench {
namespace {

using namespace kernels;

struct Norm {
  const float* x;             // [rows,C]
  const float *gamma, *beta;  // [C]
  float* y;                   // [rows,C]
  float *mean, *inv_std;      // [C]
  std::int64_t rows, channels;
  float eps;
};
Norm norm_of(const BatchNormForward& a) {
  const std::int64_t c = a.gamma.numel();
  return {a.x.as<float>(),
          a.gamma.as<float>(),
          a.beta.as<float>(),
          a.y.as<float>(),
          a.mean.as<float>(),
          a.inv_std.as<float>(),
          a.x.numel() / c,
          c,
          a.eps};
}

/// y of rows [begin, end) from the statistics, rows outside and channels inside.
void normalise(const Norm& n, std::int64_t begin, std::int64_t end) {
  std::vector<float> scale(static_cast<std::size_t>(n.channels)), shift(scale.size());
  for (std::int64_t c = 0; c < n.channels; ++c) {
    const auto at = static_cast<std::size_t>(c);
    scale[at] = n.gamma[c] * n.inv_std[c];
    shift[at] = n.beta[c] - n.mean[c] * scale[at];
  }
  for (std::int64_t r = begin; r < end; ++r)
    for (std::int64_t c = 0; c < n.channels; ++c) {
      const auto at = static_cast<std::size_t>(c);
      n.y[r * n.channels + c] = std::max(n.x[r * n.channels + c] * scale[at] + shift[at], 0.0f);
    }
}

/// The formula, channel after channel: each pass takes one float of every row.
Status channel_by_channel(const Queue&, const BatchNormForward& a) {
  const Norm n = norm_of(a);
  for (std::int64_t c = 0; c < n.channels; ++c) {
    double sum = 0, squares = 0;
    for (std::int64_t r = 0; r < n.rows; ++r) sum += static_cast<double>(n.x[r * n.channels + c]);
    const double mean = sum / static_cast<double>(n.rows);
    for (std::int64_t r = 0; r < n.rows; ++r)
      squares += std::pow(static_cast<double>(n.x[r * n.channels + c]) - mean, 2);
    n.mean[c] = static_cast<float>(mean);
    n.inv_std[c] =
        static_cast<float>(1 / std::sqrt(squares / static_cast<double>(n.rows) + static_cast<double>(n.eps)));
    for (std::int64_t r = 0; r < n.rows; ++r) {
      const std::int64_t i = r * n.channels + c;
      n.y[i] = std::max(n.gamma[c] * (n.x[i] - n.mean[c]) * n.inv_std[c] + n.beta[c], 0.0f);
    }
  }
  return {};
}

/// Sums of x and of (x - pivot)^2 over rows [begin, end), pivot being the first row.
void add_rows(const Norm& n, std::int64_t begin, std::int64_t end, double* sum, double* squares) {
  for (std::int64_t r = begin; r < end; ++r)
    for (std::int64_t c = 0; c < n.channels; ++c) {
      const double d = static_cast<double>(n.x[r * n.channels + c]) - static_cast<double>(n.x[c]);
      sum[c] += d;
      squares[c] += d * d;
    }
}
void finish(const Norm& n, const double* sum, const double* squares) {
  for (std::int64_t c = 0; c < n.channels; ++c) {
    const double count = static_cast<double>(n.rows), mean = sum[c] / count;
    const double variance = std::max(squares[c] / count - mean * mean, 0.0);
    n.mean[c] = static_cast<float>(mean + static_cast<double>(n.x[c]));
    n.inv_std[c] = static_cast<float>(1 / std::sqrt(variance + static_cast<double>(n.eps)));
  }
}

/// Rows outside, channels inside: memory in its own order, and loops that the compiler vectorises.
Status row_by_row(const Queue&, const BatchNormForward& a) {
  const Norm n = norm_of(a);
  std::vector<double> sum(static_cast<std::size_t>(n.channels)), squares(sum.size());
  add_rows(n, 0, n.rows, sum.data(), squares.data());
  finish(n, sum.data(), squares.data());
  normalise(n, 0, n.rows);
  return {};
}

/// The same on all cores: each has sums of its own, which are added in order.
Status on_all_cores(const Queue&, const BatchNormForward& a) {
  const Norm n = norm_of(a);
  constexpr std::int64_t kGrain = 256;  // rows, some microseconds of work
  const auto c = static_cast<std::size_t>(n.channels);
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(parallel_parts(n.rows, kGrain)),
                                        std::vector<double>(2 * c));
  parallel_for(n.rows, kGrain, [&](std::int64_t begin, std::int64_t end, int part) {
    std::vector<double>& own = sums[static_cast<std::size_t>(part)];
    add_rows(n, begin, end, own.data(), own.data() + c);
  });
  for (std::size_t part = 1; part < sums.size(); ++part)
    for (std::size_t i = 0; i < 2 * c; ++i) sums[0][i] += sums[part][i];
  finish(n, sums[0].data(), sums[0].data() + c);
  parallel_for(n.rows, kGrain, [&](std::int64_t begin, std::int64_t end, int) { normalise(n, begin, end); });
  return {};
}

constexpr Rung kRungs[] = {
    {"channel by channel", "the formula: mean, variance, result, each in a pass down the rows",
     &channel_by_channel},
    {"row by row", "memory in its own order, both sums in one pass, the compiler vectorises", &row_by_row},
    {"on all cores", "rows shared among threads, each with sums of its own", &on_all_cores},
    {"the product", "vectors by hand, fp32 sums of short blocks, blocks that stay in the cache", &product},
};

}  // namespace

std::span<const Rung> cpu_rungs() { return kRungs; }

}  // namespace cairn::bench
