#include "kernels/step_guard.h"

#include <algorithm>

#include "kernels/cpu/fill.h"
#include "kernels/settle_step.h"

namespace cairn::kernels {
namespace {

Status settle_step_cpu(const Queue&, const SettleStep& a) {
  settle(memory_of(a));
  return {};
}

// Some thousands of elements: less than waking a second thread takes.
Status keep_buffers_cpu(const Queue&, const KeepBuffers& a) {
  const bool taken = a.nonfinite.as<std::int32_t>()[0] == 0;
  for (std::int64_t b = 0; b < a.count; ++b) {
    const KeptBuffer& buffer = a.buffers[b];
    std::copy_n(taken ? buffer.value : buffer.kept, buffer.numel, taken ? buffer.kept : buffer.value);
  }
  return {};
}

const FillCpu kSettle{settle_step, &settle_step_cpu, nullptr, {DType::f32}};
const FillCpu kKeep{keep_buffers, &keep_buffers_cpu, nullptr, {DType::f32}};

}  // namespace
}  // namespace cairn::kernels
