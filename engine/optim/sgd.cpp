#include "engine/optim/sgd.h"

#include "engine/autograd.h"

namespace cairn::optim {

// A buffer of zeros makes the first step b = g, as PyTorch's.
Sgd::Sgd(FlatParameters& parameters, const OptimizerOptions& options) : Optimizer(parameters, options) {
  if (options.momentum > 0)
    momentum_buffer_ = zeros(parameters.values().shape(), DType::f32, parameters.device());
}

std::vector<nn::NamedTensor> Sgd::moments() const {
  if (!momentum_buffer_.defined()) return {};
  return {{.name = "momentum_buffer", .tensor = momentum_buffer_, .is_buffer = true}};
}

void Sgd::update(const FlatParameters::Group& group, const kernels::StepScalars* scalars) {
  call(kernels::sgd_step, parameters_.values().queue(),
       {.param = part_of(parameters_.values(), group).inplace(),
        .grad = part_of(parameters_.grads(), group).view(),
        .momentum_buffer =
            momentum_buffer_.defined() ? part_of(momentum_buffer_, group).inplace() : kernels::View{},
        .shadow = {},
        .scalars = scalars,
        .grad_norm = grad_norm_.view(),
        .nonfinite = nonfinite(),
        .max_norm = options_.clip_norm,
        .lr_scale = group.lr_scale,
        .momentum = options_.momentum,
        .weight_decay = options_.weight_decay,
        .nesterov = options_.nesterov});
}

}  // namespace cairn::optim
