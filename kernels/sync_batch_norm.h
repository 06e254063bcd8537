#pragma once
#include "kernels/dispatch.h"

namespace cairn::kernels {

/// Batch normalisation over the images of several processes, in pieces around the two sums that they
/// exchange. Between them the inference form and its backward (kernels/batch_norm.h) do the work, with the
/// statistics of all processes in the place of the running ones. C is the last axis of x [N,H,W,C] or [N,C],
/// M the number of values of a channel in all processes; per-channel arrays [C] are fp32 (fp64 where x is
/// fp64).

/// sums [2C+1] fp64 = for each channel sum x; for each sum x^2; the number of values a channel.
struct ChannelMoments {
  ConstView x;
  View sums;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

/// From the sums of all processes: mean and var (biased) [C]. running_mean = (1 - momentum) * running_mean +
/// momentum * mean; running_var likewise with the unbiased variance. running_* optional.
struct BatchNormStatistics {
  ConstView sums;  // [2C+1] fp64
  View mean;
  View var;
  View running_mean;
  View running_var;
  float momentum = 0.1f;
  DType dtype() const { return mean.dtype; }
};

/// What the inference form's dx lacks, since the statistics are the batch's own. With r = 1 / sqrt(var +
/// eps):
///   dx -= gamma r / M * (dbeta + (x - mean) r dgamma).
/// dgamma, dbeta: summed over all processes.
struct BatchNormCorrection {
  ConstView x;
  ConstView gamma;
  ConstView mean;
  ConstView var;
  ConstView dgamma;
  ConstView dbeta;
  ConstView sums;  // [2C+1] fp64, of all processes; the last is M
  View dx;
  float eps = 1e-5f;
  void* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  DType dtype() const { return x.dtype; }
};

inline constinit KernelSlot<ChannelMoments> channel_moments("channel_moments");
inline constinit KernelSlot<BatchNormStatistics> batch_norm_statistics("batch_norm_statistics");
inline constinit KernelSlot<BatchNormCorrection> batch_norm_correction("batch_norm_correction");

}  // namespace cairn::kernels
