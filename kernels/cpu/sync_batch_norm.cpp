#include "kernels/sync_batch_norm.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sync_batch_norm.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

// Rows [M] of C channels. Sums: fp32 (fp64 for fp64) within kRows rows, squares about those rows' own mean;
// fp64 beyond. Threads take ranges of rows; their sums are added in order.

#ifndef CAIRN_KERNELS_CPU_SYNC_BATCH_NORM_SHARED
#define CAIRN_KERNELS_CPU_SYNC_BATCH_NORM_SHARED
namespace cairn::kernels {
namespace {

constexpr std::int64_t kRows = 8;
constexpr std::int64_t kGrain = 1 << 14;  // elements worth a thread

struct Rows {
  explicit Rows(const Shape& shape)
      : channels(shape[shape.rank - 1]), rows(channels > 0 ? shape.numel() / channels : 0) {}
  std::int64_t grain() const {
    return std::max<std::int64_t>(kGrain / std::max<std::int64_t>(channels, 1), 1);
  }
  std::int64_t parts() const { return std::max(parallel_parts(rows, grain()), 1); }
  std::int64_t channels, rows;
};

/// Two fp64 sums, and those of the rows at hand, for each thread and channel.
std::size_t moments_workspace(const Queue&, const ChannelMoments& a) {
  const Rows r(a.x.shape);
  return static_cast<std::size_t>(r.parts() * 4 * r.channels) * sizeof(double);
}
/// Two factors a channel.
std::size_t correction_workspace(const Queue&, const BatchNormCorrection& a) {
  return static_cast<std::size_t>(2 * Rows(a.x.shape).channels) * sizeof(double);
}

}  // namespace
}  // namespace cairn::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

/// sum = the sum of n rows, squares = their squares about its mean.
template <class T>
HWY_NOINLINE void sum_rows(const T* x, std::int64_t n, std::int64_t channels, ComputeOf<T>* sum,
                           ComputeOf<T>* squares) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  const auto inverse = hn::Set(d, C(1) / static_cast<C>(n));
  for_each_vector(d, 0, channels, [&](std::int64_t c, auto part) HWY_ATTR {
    auto s = hn::Zero(d), q = hn::Zero(d);
    for (std::int64_t r = 0; r < n; ++r) s = hn::Add(s, load(d, x + r * channels + c, part));
    const auto mean = hn::Mul(s, inverse);
    for (std::int64_t r = 0; r < n; ++r) {
      const auto e = hn::Sub(load(d, x + r * channels + c, part), mean);
      q = hn::MulAdd(e, e, q);
    }
    store(d, s, sum + c, part);
    store(d, q, squares + c, part);
  });
}

template <class T>
void moments(const ChannelMoments& a) {
  using C = ComputeOf<T>;
  const Rows l(a.x.shape);
  auto* const sums = static_cast<double*>(a.scratch);
  const auto part_of = [&](std::int64_t part) { return sums + part * 4 * l.channels; };
  for (std::int64_t p = 0; p < l.parts(); ++p) std::fill_n(part_of(p), 2 * l.channels, 0.0);
  parallel_for(l.rows, l.grain(), [&](std::int64_t begin, std::int64_t end, int part) {
    double *first = part_of(part), *second = first + l.channels;
    C* s = reinterpret_cast<C*>(second + l.channels);
    C* q = s + l.channels;
    for (std::int64_t row = begin; row < end; row += kRows) {
      const std::int64_t n = std::min(kRows, end - row);
      sum_rows(a.x.as<T>() + row * l.channels, n, l.channels, s, q);
      const double inverse = 1.0 / static_cast<double>(n);
      for (std::int64_t c = 0; c < l.channels; ++c) {
        const double sum = static_cast<double>(s[c]);
        first[c] += sum;
        second[c] += static_cast<double>(q[c]) + sum * sum * inverse;
      }
    }
  });
  auto* const out = a.sums.as<double>();
  std::copy_n(part_of(0), 2 * l.channels, out);
  for (std::int64_t p = 1; p < l.parts(); ++p)
    for (std::int64_t i = 0; i < 2 * l.channels; ++i) out[i] += part_of(p)[i];
  out[2 * l.channels] = static_cast<double>(l.rows);
}

template <class T>
void correction(const BatchNormCorrection& a) {
  using C = ComputeOf<T>;
  const Rows l(a.x.shape);
  C* const slope = static_cast<C*>(a.scratch);  // dx += slope x + shift
  C* const shift = slope + l.channels;
  const double m = a.sums.as<double>()[2 * l.channels];
  for (std::int64_t c = 0; c < l.channels; ++c) {
    const auto at = [c](const ConstView& v) { return static_cast<double>(v.as<C>()[c]); };
    const double r = 1.0 / std::sqrt(at(a.var) + static_cast<double>(a.eps));
    const double factor = -at(a.gamma) * r / m;
    slope[c] = static_cast<C>(factor * r * at(a.dgamma));
    shift[c] = static_cast<C>(factor * at(a.dbeta));
  }
  const Tag<T> d;
  const C* const mean = a.mean.as<C>();
  parallel_for(l.rows, l.grain(), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = a.x.as<T>() + row * l.channels;
      T* dx = a.dx.as<T>() + row * l.channels;
      for_each_vector(d, 0, l.channels, [&](std::int64_t c, auto part) HWY_ATTR {
        const auto centred = hn::Sub(load(d, x + c, part), load(d, mean + c, part));
        const auto v = hn::MulAdd(load(d, slope + c, part), centred, load(d, shift + c, part));
        store(d, hn::Add(load(d, dx + c, part), v), dx + c, part);
      });
    }
  });
}

Status channel_moments_cpu(const Queue&, const ChannelMoments& a) {
  with_compute_type(a.dtype(), [&](auto t) { moments<typename decltype(t)::type>(a); });
  return {};
}
Status correction_cpu(const Queue&, const BatchNormCorrection& a) {
  with_compute_type(a.dtype(), [&](auto t) { correction<typename decltype(t)::type>(a); });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {

// A few thousand channels: no work for vectors.
Status statistics_cpu(const Queue&, const BatchNormStatistics& a) {
  with_compute_type(a.dtype(), [&]<class C>(TypeTag<C>) {
    if constexpr (!std::is_same_v<C, BFloat16>) {
      const std::int64_t channels = a.mean.numel();
      const auto* sums = a.sums.as<double>();
      const double n = sums[2 * channels], m = static_cast<double>(a.momentum);
      const auto update = [m](C& running, double value) {
        running = static_cast<C>((1 - m) * static_cast<double>(running) + m * value);
      };
      for (std::int64_t c = 0; c < channels; ++c) {
        const double mean = sums[c] / n;
        const double var = std::max(sums[channels + c] / n - mean * mean, 0.0);
        a.mean.as<C>()[c] = static_cast<C>(mean);
        a.var.as<C>()[c] = static_cast<C>(var);
        if (a.running_mean) update(a.running_mean.as<C>()[c], mean);
        if (a.running_var) update(a.running_var.as<C>()[c], var * n / std::max(n - 1, 1.0));
      }
    }
  });
  return {};
}

CAIRN_CPU_SIMD_FILL(channel_moments, channel_moments_cpu, &moments_workspace);
CAIRN_CPU_SIMD_FILL(batch_norm_correction, correction_cpu, &correction_workspace);
const FillCpu kFillStatistics{batch_norm_statistics, &statistics_cpu, nullptr, kParameterDTypes};

}  // namespace
}  // namespace cairn::kernels
#endif
