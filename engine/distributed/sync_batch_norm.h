#pragma once
#include "engine/distributed/collective.h"
#include "engine/ops.h"

namespace cairn {

/// batch_norm() over the images of all processes of a job: their statistics, and their sums in the gradient
/// of x. gamma's and beta's gradients are this process's part of the sum over all. Every process makes the
/// same calls. In engine/ops/batch_norm.cpp.
Tensor sync_batch_norm(const Tensor& x, const BatchNormTensors& bn, const Tensor& residual,
                       Activation activation, float momentum, float eps, distributed::Collective& processes);

}  // namespace cairn
