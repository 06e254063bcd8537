#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/device.h"

namespace cairn {

/// What a kernel has to move and compute at least.
struct KernelWork {
  double bytes = 0;  // of the tensors it is given, each once
  double flops =
      0;  // multiplications and additions, of the direct method; 0 where the arithmetic is no matter
};

/// One kernel's run. Times in seconds since the recording began.
struct KernelEvent {
  const char* kernel = "";
  std::string pass;   // "forward", "backward", "optimizer", "load", "" outside of all
  std::string layer;  // "layer1.0.conv1", "" outside of all
  double begin_s = 0, seconds = 0;
  KernelWork work;
};

/// Records what kernels take, process-wide, one recording at a time, of one thread: the caller's. A kernel of
/// a device that works beside the host is waited for, before and after, so that its own time is seen: a step
/// takes longer while it is recorded.
namespace profiler {

inline std::atomic<bool> recording{false};
inline bool on() { return recording.load(std::memory_order_relaxed); }

void start();
std::vector<KernelEvent> stop();

/// ProfileRange's: names of passes and modules around what follows.
void push(const char* name);
void pop();
/// Of the innermost modules, joined with '.', for the backward pass to come back to.
std::string layer();
/// Seconds since the recording began.
double now();
void add(const char* kernel, double begin_s, const KernelWork& work);

}  // namespace profiler

/// Bytes and flops of a kernel's arguments: of every view that goes by a name known here.
template <class Args>
KernelWork work_of(const Args& a) {
  KernelWork work;
  [[maybe_unused]] const auto take = [&](const auto& v) {
    if (v) work.bytes += static_cast<double>(v.numel()) * static_cast<double>(size_of(v.dtype));
  };
#define CAIRN_TAKE(name) \
  if constexpr (requires { a.name.numel(); }) take(a.name)
  CAIRN_TAKE(x);
  CAIRN_TAKE(w);
  CAIRN_TAKE(a);
  CAIRN_TAKE(b);
  CAIRN_TAKE(y);
  CAIRN_TAKE(dy);
  CAIRN_TAKE(dx);
  CAIRN_TAKE(dw);
  CAIRN_TAKE(residual);
  CAIRN_TAKE(dresidual);
  CAIRN_TAKE(index);
  CAIRN_TAKE(logits);
  CAIRN_TAKE(dlogits);
  CAIRN_TAKE(param);
  CAIRN_TAKE(grad);
  CAIRN_TAKE(momentum_buffer);
  CAIRN_TAKE(exp_avg);
  CAIRN_TAKE(exp_avg_sq);
  CAIRN_TAKE(average);
  CAIRN_TAKE(shadow);
#undef CAIRN_TAKE
  if constexpr (requires { a.flops(); }) work.flops = a.flops();
  return work;
}

}  // namespace cairn
