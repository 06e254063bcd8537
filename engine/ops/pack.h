#pragma once
#include "engine/autograd.h"
#include "engine/tensor.h"

namespace cairn::ops {

/// Weights as a *Pack kernel (kernels/conv.h, gemm.h) puts them; undefined where the device has none, or
/// weights as they are serve best.
template <class Slot, class Pack>
Tensor packed_by(const Slot& slot, const Tensor& x, Pack pack) {
  if (!slot.filled(x.device().type, x.dtype())) return {};
  pack.scratch_bytes = slot.workspace(x.queue(), pack);
  if (pack.scratch_bytes == 0) return {};
  Tensor packed = empty({static_cast<std::int64_t>(pack.scratch_bytes)}, DType::u8, x.device());
  pack.scratch = packed.out().data;
  if (!dry_run()) check(slot(x.queue(), pack));
  return packed;
}

}  // namespace cairn::ops
