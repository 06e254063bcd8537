#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/nn/module.h"
#include "engine/optim/kept_buffers.h"
#include "engine/optim/parameters.h"
#include "engine/optim/step_guard.h"
#include "kernels/optimizer.h"

namespace cairn::optim {

enum class OptimizerKind : std::uint8_t { sgd, adam, adamw };
OptimizerKind parse_optimizer(std::string_view name);  // "sgd", "adam", "adamw"; throws InputError

/// As torch.optim's SGD, Adam and AdamW have them.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adam;
  float weight_decay = 0.0f;
  float momentum = 0.9f;  // sgd
  bool nesterov = false;  // sgd
  float beta1 = 0.9f;     // adam, adamw
  float beta2 = 0.999f;
  float eps = 1e-8f;
  float clip_norm = 0.0f;  // > 0: gradients are scaled down to this global norm
  float ema_decay = 0.0f;  // > 0: an exponential moving average of the parameters is kept (kernels::EmaStep)
};

/// Changes all parameters in one pass. One step: zero_grad(); loss.backward(); step(lr). A step whose
/// gradients are not finite changes nothing: parameters, moments, moving average and the module's buffers
/// stay.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  void zero_grad() { parameters_.zero_grad(); }
  /// prepare(lr) and apply().
  void step(float lr);
  /// Counts the step and sends what changes from step to step (rate, bias corrections) to the device.
  /// `grad_scale` multiplies every gradient first.
  void prepare(float lr, float grad_scale = 1.0f);
  /// Clears unused gradients, looks whether all are finite, and `loss` ([1] fp32) where it is given; clips,
  /// updates: kernels only, so that a captured graph can replay it.
  void apply(const Tensor& loss = {});
  StepGuard& guard() { return guard_; }
  const StepGuard& guard() const { return guard_; }
  const KeptBuffers& buffers() const { return buffers_; }
  /// After steps that the guard held: takes the last `steps` out of the count, and lets steps be taken again.
  void withdraw(std::int64_t steps);

  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps) { steps_ = steps; }
  /// Norm of the last step's gradients before clipping, [1] fp32 on the device; undefined without clipping.
  const Tensor& grad_norm() const { return grad_norm_; }
  /// Flat tensors beside the parameters, for checkpoints: "momentum_buffer"; "exp_avg", "exp_avg_sq"; "ema".
  std::vector<nn::NamedTensor> state() const;
  bool has_average() const { return ema_.defined(); }
  /// Exchanges the parameters and their moving average, if there is one. Between exchange and exchange back
  /// the module may be evaluated and saved, not trained.
  void exchange_average();

 protected:
  Optimizer(FlatParameters& parameters, const OptimizerOptions& options);
  virtual void fill_scalars(kernels::StepScalars&) const {}
  /// Queues the kernel for the elements of one group.
  virtual void update(const FlatParameters::Group& group, const kernels::StepScalars* scalars) = 0;
  virtual std::vector<nn::NamedTensor> moments() const = 0;
  /// A group's part of a flat tensor; undefined of an undefined one.
  static Tensor part_of(const Tensor& flat, const FlatParameters::Group& group);
  /// For the kernels' argument of that name.
  kernels::ConstView nonfinite() const { return guard_.nonfinite().view(); }
  FlatParameters& parameters_;
  OptimizerOptions options_;
  std::int64_t steps_ = 0;
  Tensor grad_norm_;

 private:
  std::vector<FlatParameters::Group> groups_;
  Tensor ema_;  // as parameters_.values(); undefined without
  StepGuard guard_;
  KeptBuffers buffers_;
  kernels::StepScalars host_scalars_;
  Tensor device_scalars_;  // [sizeof(StepScalars)] uint8
};

/// While it lives the module computes with the parameters' moving average, if the optimiser keeps one.
class AverageInPlace {
 public:
  explicit AverageInPlace(Optimizer& optimizer) : optimizer_(optimizer) { optimizer_.exchange_average(); }
  ~AverageInPlace() { optimizer_.exchange_average(); }
  AverageInPlace(const AverageInPlace&) = delete;
  AverageInPlace& operator=(const AverageInPlace&) = delete;

 private:
  Optimizer& optimizer_;
};

/// Throws InputError for values out of range. `parameters` must outlive the optimiser.
std::unique_ptr<Optimizer> make_optimizer(FlatParameters& parameters, const OptimizerOptions& options);

}  // namespace cairn::optim
