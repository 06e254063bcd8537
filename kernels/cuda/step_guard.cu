// What becomes of a step, and batch norm's running statistics with it; kernels/step_guard.h has the rules.
// settle_step is one thread and some 60 bytes: what it costs is the launch. keep_buffers reads and writes 4
// bytes an element. Both read and write where the optimiser's kernels do, so that a captured graph replays.
#include "kernels/step_guard.h"

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/fill.h"
#include "kernels/settle_step.h"

namespace cairn::kernels {
namespace {

__global__ void settle_step_kernel(StepToSettle step) { settle(step); }

__global__ void keep_buffers_kernel(const KeptBuffer* buffers, const int32_t* nonfinite) {
  const KeptBuffer b = buffers[blockIdx.y];
  const bool taken = *nonfinite == 0;
  for (int64_t i = grid_start(); i < b.numel; i += grid_stride()) {
    if (taken)
      b.kept[i] = b.value[i];
    else
      b.value[i] = b.kept[i];
  }
}

Status settle_step_cuda(const Queue& q, const SettleStep& a) {
  return launch(&settle_step_kernel, dim3(1), dim3(1), 0, stream_of(q), memory_of(a));
}

Status keep_buffers_cuda(const Queue& q, const KeepBuffers& a) {
  if (a.count == 0 || a.largest == 0) return {};
  return launch(&keep_buffers_kernel, dim3(grid_for(a.largest), static_cast<unsigned>(a.count)), dim3(kBlock),
                0, stream_of(q), a.buffers, a.nonfinite.as<int32_t>());
}

const FillCuda kSettle{settle_step, &settle_step_cuda, nullptr, {DType::f32}};
const FillCuda kKeep{keep_buffers, &keep_buffers_cuda, nullptr, {DType::f32}};

}  // namespace
}  // namespace cairn::kernels
