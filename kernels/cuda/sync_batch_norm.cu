// What batch norm over the images of several processes does between their two sums and behind them;
// kernels/sync_batch_norm.h has the equations. The sums of x are batch norm's own and stand with it
// (batch_norm.cu), as do the passes that apply statistics. Here: statistics, a few thousand channels; and
// what dx lacks, one pass that reads x and dx and writes dx. Limited by memory.
#include "kernels/sync_batch_norm.h"

#include <cmath>

#include "kernels/cuda/channel_walk.h"
#include "kernels/cuda/device/batch_norm.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

template <class C>
struct StatisticsOf {
  const double* sums;  // [2C+1]
  int64_t channels;
  C *mean, *var;  // [C]
  RunningStatistics<C> running;
  template <int kWidth>
  __device__ void run(int64_t c) const {
    static_assert(kWidth == 1);
    const Moments m(sums[c], sums[channels + c], sums[2 * channels]);
    mean[c] = static_cast<C>(m.mean);
    var[c] = static_cast<C>(m.var);
    running.update(c, m);
  }
};

Status statistics_cuda(const Queue& q, const BatchNormStatistics& a) {
  using C = Parameter;
  const int64_t channels = a.mean.numel();
  return launch_elementwise<1>(
      stream_of(q), channels, false,
      StatisticsOf<C>{a.sums.as<double>(),
                      channels,
                      a.mean.as<C>(),
                      a.var.as<C>(),
                      {a.running_mean.as<C>(), a.running_var.as<C>(), static_cast<double>(a.momentum)}});
}

/// dx += slope (x - mean) + shift. The divisions in double are done once a channel, not once a thread.
template <class C>
struct CorrectionFactors {
  ChannelScratch<C> slope, shift, mean;
};
template <class C>
struct CorrectionFactorsOf {
  const C *gamma, *mean, *var, *dgamma, *dbeta;  // [C]
  const double* count;                           // [1]
  double eps;
  CorrectionFactors<C> left;
  template <int kWidth>
  __device__ void run(int64_t c) const {
    static_assert(kWidth == 1);
    const double r = 1 / std::sqrt(static_cast<double>(var[c]) + eps);
    const double factor = -static_cast<double>(gamma[c]) * r / *count;
    left.slope.at(c) = static_cast<C>(factor * r * static_cast<double>(dgamma[c]));
    left.shift.at(c) = static_cast<C>(factor * static_cast<double>(dbeta[c]));
    left.mean.at(c) = mean[c];
  }
};

template <int kWidth, class C>
struct CorrectionState {
  ChannelValues<kWidth, C> slope, shift, mean;
};
template <class T>
struct CorrectionOf {
  using C = Compute<T>;
  const T* x;
  T* dx;
  CorrectionFactors<C> factors;
  template <int kWidth>
  __device__ CorrectionState<kWidth, C> prepare(int64_t column) const {
    CorrectionState<kWidth, C> s;
    factors.slope.read(column, s.slope);
    factors.shift.read(column, s.shift);
    factors.mean.read(column, s.mean);
    return s;
  }
  template <int kWidth>
  __device__ void run(const CorrectionState<kWidth, C>& s, int64_t i) const {
    Values<kWidth, T> v = load_values<kWidth>(x + i);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) v.v[k] = std::fma(s.slope.v[k], v.v[k] - s.mean.v[k], s.shift.v[k]);
    land_values(dx + i, v, Write::add);
  }
};

/// Three factors a channel.
std::size_t correction_workspace(const Queue&, const BatchNormCorrection& a) {
  return static_cast<std::size_t>(3 * a.mean.numel()) * size_of(a.mean.dtype);
}

Status correction_cuda(const Queue& q, const BatchNormCorrection& a) {
  if (a.x.numel() == 0) return {};
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    return with_width<T>(is_wide<T>(a.x.shape, {a.x.data, a.dx.data}), [&](auto width) -> Status {
      constexpr int kWidth = decltype(width)::value;
      const Walk walk = walk_of(a.x.shape, kWidth);
      const auto left = [&](int number) {
        return ChannelScratch<C>{static_cast<C*>(a.scratch) + number * walk.channels, walk.channels, kWidth};
      };
      const CorrectionFactors<C> factors{left(0), left(1), left(2)};
      Status made = launch_elementwise<1>(
          stream_of(q), walk.channels, false,
          CorrectionFactorsOf<C>{a.gamma.as<C>(), a.mean.as<C>(), a.var.as<C>(), a.dgamma.as<C>(),
                                 a.dbeta.as<C>(), a.sums.as<double>() + 2 * walk.channels,
                                 static_cast<double>(a.eps), factors});
      if (!made.ok()) return made;
      return launch_walk<kWidth>(q, walk, CorrectionOf<T>{a.x.as<T>(), a.dx.as<T>(), factors});
    });
  });
}

const FillCuda kStatistics{batch_norm_statistics, &statistics_cuda, nullptr, kParameterDTypes};
const FillCuda kCorrection{batch_norm_correction, &correction_cuda, &correction_workspace};

}  // namespace
}  // namespace cairn::kernels
