#include "engine/optim/loss_scaler.h"

#include <cmath>

#include "engine/autograd.h"
#include "kernels/error.h"
#include "kernels/pointwise.h"

namespace cairn::optim {

LossScaler::LossScaler(Device device, const LossScalerOptions& options)
    : options_(options),
      scale_(full({1}, static_cast<double>(options.initial_scale), DType::f32, device)),
      counters_(zeros({2}, DType::i32, device)),
      nonfinite_(zeros({1}, DType::i32, device)) {
  if (!kernels::update_loss_scale.filled(device.type, DType::f32))
    throw DTypeError("loss scaling: device '" + to_string(device) +
                     "' does not train in fp16; use fp32 or bf16");
  int exponent = 0;
  if (!(options.initial_scale > 0) || std::frexp(options.initial_scale, &exponent) != 0.5f)
    throw InputError("loss scaling: the initial scale is " + std::to_string(options.initial_scale) +
                     ", expected a power of two");
  if (options.growth_interval < 1)
    throw InputError("loss scaling: the growth interval is " + std::to_string(options.growth_interval) +
                     ", expected 1 or more");
}

void LossScaler::update(const Tensor& grads, kernels::StepScalars* scalars, float beta1, float beta2) {
  const kernels::Queue& queue = grads.queue();
  call(kernels::fill_value, queue, {nonfinite_.inplace(), 0.0});
  call(kernels::check_finite, queue, {.x = grads.view(), .flag = nonfinite_.inplace()});
  call(kernels::update_loss_scale, queue,
       {.scale = scale_.inplace(),
        .counters = counters_.inplace(),
        .nonfinite = nonfinite_.view(),
        .scalars = scalars,
        .growth_interval = options_.growth_interval,
        .beta1 = beta1,
        .beta2 = beta2});
}

LossScaler::State LossScaler::read() const {
  const std::vector<std::int32_t> counters = counters_.to_vector<std::int32_t>();
  return {.scale = scale_.to_vector<float>()[0], .good_steps = counters[0], .skipped_steps = counters[1]};
}

void LossScaler::restore(const State& state) {
  scale_.copy_from<float>(std::span(&state.scale, 1));
  const std::int32_t counters[] = {state.good_steps, state.skipped_steps};
  counters_.copy_from<std::int32_t>(counters);
}

}  // namespace cairn::optim
