#include "engine/optim/adam.h"

#include <cmath>

#include "engine/autograd.h"

namespace cairn::optim {

Adam::Adam(FlatParameters& parameters, const OptimizerOptions& options)
    : Optimizer(parameters, options),
      exp_avg_(zeros(parameters.values().shape(), DType::f32, parameters.device())),
      exp_avg_sq_(zeros(parameters.values().shape(), DType::f32, parameters.device())) {}

std::vector<nn::NamedTensor> Adam::moments() const {
  return {{.name = "exp_avg", .tensor = exp_avg_, .is_buffer = true},
          {.name = "exp_avg_sq", .tensor = exp_avg_sq_, .is_buffer = true}};
}

void Adam::fill_scalars(kernels::StepScalars& scalars) const {
  const auto correction = [this](float beta) {
    return static_cast<float>(1.0 - std::pow(static_cast<double>(beta), static_cast<double>(steps_)));
  };
  scalars.bias_correction1 = correction(options_.beta1);
  scalars.bias_correction2 = correction(options_.beta2);
}

void Adam::update(const FlatParameters::Group& group, const kernels::StepScalars* scalars) {
  call(kernels::adam_step, parameters_.values().queue(),
       {.param = part_of(parameters_.values(), group).inplace(),
        .grad = part_of(parameters_.grads(), group).view(),
        .exp_avg = part_of(exp_avg_, group).inplace(),
        .exp_avg_sq = part_of(exp_avg_sq_, group).inplace(),
        .shadow = {},
        .scalars = scalars,
        .grad_norm = grad_norm_.view(),
        .nonfinite = nonfinite(),
        .max_norm = options_.clip_norm,
        .lr_scale = group.lr_scale,
        .beta1 = options_.beta1,
        .beta2 = options_.beta2,
        .eps = options_.eps,
        .weight_decay = options_.weight_decay,
        .decoupled = options_.kind == OptimizerKind::adamw});
}

}  // namespace cairn::optim
