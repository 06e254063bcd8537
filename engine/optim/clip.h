#pragma once
#include "engine/tensor.h"

namespace cairn::optim {

/// norm[0] = sqrt(sum flat^2), accumulated in fp64, left on the device: the optimisers' kernels read it and
/// scale by min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does.
void global_norm(const Tensor& flat, const Tensor& norm);

}  // namespace cairn::optim
