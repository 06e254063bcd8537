#include "engine/optim/optimizer.h"

#include "engine/autograd.h"
#include "engine/optim/adam.h"
#include "engine/optim/clip.h"
#include "engine/optim/sgd.h"
#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/pointwise.h"

namespace cairn::optim {

OptimizerKind parse_optimizer(std::string_view name) {
  if (name == "sgd") return OptimizerKind::sgd;
  if (name == "adam") return OptimizerKind::adam;
  if (name == "adamw") return OptimizerKind::adamw;
  throw InputError("unknown optimizer '" + std::string(name) + "'; there are sgd, adam, adamw");
}

Optimizer::Optimizer(FlatParameters& parameters, const OptimizerOptions& options)
    : parameters_(parameters),
      options_(options),
      groups_(parameters.groups()),
      guard_(parameters.device()),
      buffers_(parameters.buffers(), parameters.device()),
      device_scalars_(empty({sizeof(kernels::StepScalars)}, DType::u8, parameters.device())) {
  if (options.clip_norm > 0) grad_norm_ = zeros({1}, DType::f32, parameters.device());
  if (options.ema_decay > 0) {
    ema_ = empty_like(parameters.values());
    call(kernels::cast, ema_.queue(), {parameters.values().view(), ema_.out()});
  }
}

void Optimizer::step(float lr) {
  prepare(lr);
  apply();
}

void Optimizer::prepare(float lr, float grad_scale) {
  ++steps_;
  host_scalars_ = {.lr = lr, .grad_scale = grad_scale, .step = static_cast<std::int32_t>(steps_)};
  fill_scalars(host_scalars_);
  // Pageable memory is taken over before the call returns, so the next step may write it at once.
  check(kernels::device_api(parameters_.device().type)
            ->copy(device_scalars_.queue(), device_scalars_.inplace().data, &host_scalars_,
                   sizeof host_scalars_, kernels::CopyKind::host_to_device));
}

void Optimizer::apply(const Tensor& loss) {
  parameters_.clear_unused_grads();
  auto* const scalars = static_cast<kernels::StepScalars*>(device_scalars_.inplace().data);
  if (grad_norm_.defined()) global_norm(parameters_.grads(), grad_norm_);
  // A norm is as good as what it was made of, and read already.
  guard_.settle(grad_norm_.defined() ? grad_norm_ : parameters_.grads(), loss, scalars, options_.beta1,
                options_.beta2);
  for (const FlatParameters::Group& group : groups_) update(group, scalars);
  if (ema_.defined())
    call(kernels::ema_step, ema_.queue(),
         {.average = ema_.inplace(),
          .param = parameters_.values().view(),
          .scalars = scalars,
          .nonfinite = nonfinite(),
          .decay = options_.ema_decay});
  buffers_.commit(guard_.nonfinite());
}

void Optimizer::withdraw(std::int64_t steps) {
  steps_ -= steps;
  guard_.release();
}

std::vector<nn::NamedTensor> Optimizer::state() const {
  std::vector<nn::NamedTensor> tensors = moments();
  if (ema_.defined()) tensors.push_back({.name = "ema", .tensor = ema_, .is_buffer = true});
  return tensors;
}

void Optimizer::exchange_average() {
  if (!ema_.defined()) return;
  const Tensor& values = parameters_.values();
  const Tensor kept = empty_like(values);
  call(kernels::cast, values.queue(), {values.view(), kept.out()});
  call(kernels::cast, values.queue(), {ema_.view(), values.inplace()});
  call(kernels::cast, values.queue(), {kept.view(), ema_.inplace()});
}

Tensor Optimizer::part_of(const Tensor& flat, const FlatParameters::Group& group) {
  if (!flat.defined()) return {};
  if (group.offset == 0 && group.numel == flat.numel()) return flat;
  return flat.alias({group.numel}, group.offset);
}

std::unique_ptr<Optimizer> make_optimizer(FlatParameters& parameters, const OptimizerOptions& options) {
  const auto require = [](bool ok, const char* what, float value, const char* expected) {
    if (!ok)
      throw InputError("optimizer: " + std::string(what) + " is " + std::to_string(value) + ", expected " +
                       expected);
  };
  require(options.weight_decay >= 0, "weight decay", options.weight_decay, "0 or more");
  require(options.momentum >= 0 && options.momentum < 1, "momentum", options.momentum, "0 <= m < 1");
  require(options.beta1 >= 0 && options.beta1 < 1, "beta1", options.beta1, "0 <= b < 1");
  require(options.beta2 >= 0 && options.beta2 < 1, "beta2", options.beta2, "0 <= b < 1");
  require(options.eps > 0, "eps", options.eps, "more than 0");
  require(options.clip_norm >= 0, "the norm to clip to", options.clip_norm, "0 or more");
  require(options.ema_decay >= 0 && options.ema_decay < 1, "the average's decay", options.ema_decay,
          "0 <= d < 1");
  require(!options.nesterov || options.momentum > 0, "momentum", options.momentum,
          "more than 0 for Nesterov");
  if (options.kind == OptimizerKind::sgd) return std::make_unique<Sgd>(parameters, options);
  return std::make_unique<Adam>(parameters, options);
}

}  // namespace cairn::optim
