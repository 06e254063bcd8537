#include "engine/optim/step_guard.h"

#include <cmath>

#include "engine/autograd.h"
#include "kernels/error.h"
#include "kernels/optimizer.h"
#include "kernels/pointwise.h"

namespace cairn::optim {

StepGuard::StepGuard(Device device)
    : counters_(zeros({3}, DType::i32, device)),
      nonfinite_(zeros({1}, DType::i32, device)),
      report_(zeros({sizeof(kernels::StepReport)}, DType::u8, device)) {}

void StepGuard::scale_loss(const LossScaleOptions& options) {
  const Device device = counters_.device();
  if (!kernels::check_finite.filled(device.type, DType::f16))
    throw DTypeError("loss scaling: device '" + to_string(device) +
                     "' does not train in fp16; use fp32 or bf16");
  int exponent = 0;
  if (!(options.initial_scale > 0) || std::frexp(options.initial_scale, &exponent) != 0.5f)
    throw InputError("loss scaling: the initial scale is " + std::to_string(options.initial_scale) +
                     ", expected a power of two");
  if (options.growth_interval < 1)
    throw InputError("loss scaling: the growth interval is " + std::to_string(options.growth_interval) +
                     ", expected 1 or more");
  options_ = options;
  scale_ = full({1}, static_cast<double>(options.initial_scale), DType::f32, device);
}

void StepGuard::release() {
  std::vector<std::int32_t> counters = counters_.to_vector<std::int32_t>();
  counters[2] = 0;
  counters_.copy_from<std::int32_t>(counters);
}

void StepGuard::settle(const Tensor& grads, const Tensor& loss, kernels::StepScalars* scalars, float beta1,
                       float beta2) {
  const kernels::Queue& queue = grads.queue();
  call(kernels::fill_value, queue, {nonfinite_.inplace(), 0.0});
  call(kernels::check_finite, queue, {.x = grads.view(), .flag = nonfinite_.inplace()});
  call(kernels::settle_step, queue,
       {.loss = loss.view(),
        .nonfinite = nonfinite_.inplace(),
        .counters = counters_.inplace(),
        .scale = scale_.inplace(),
        .scalars = scalars,
        .report = static_cast<kernels::StepReport*>(report_.inplace().data),
        .hold = hold_,
        .growth_interval = options_.growth_interval,
        .beta1 = beta1,
        .beta2 = beta2});
}

StepGuard::State StepGuard::read() const {
  const std::vector<std::int32_t> counters = counters_.to_vector<std::int32_t>();
  return {.scale = scale_.defined() ? scale_.to_vector<float>()[0] : 0,
          .good_steps = counters[0],
          .skipped_steps = counters[1]};
}

void StepGuard::restore(const State& state) {
  if (scale_.defined()) scale_.copy_from<float>(std::span(&state.scale, 1));
  const std::int32_t counters[] = {state.good_steps, state.skipped_steps, 0};
  counters_.copy_from<std::int32_t>(counters);
}

}  // namespace cairn::optim
