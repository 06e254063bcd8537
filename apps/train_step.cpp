#include "apps/train_step.h"

#include <span>

#include "engine/profile_range.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

// Plans are chosen in the first step, and by the third the cache holds all memory that a step takes.
constexpr int kWarmSteps = 3;

// Into the memory that is there, or into new memory.
template <class T>
void send(Tensor& to, const Shape& shape, std::span<const T> values, Device device) {
  if (to.defined())
    to.copy_from<T>(values);
  else
    to = from_values<T>(shape, values, device);
}

// Evaluation stays strict fp32, so that `train` and `evaluate` say the same.
class Tf32Scope {
 public:
  Tf32Scope(Device device, bool on) : device_(device), on_(on) {
    if (on_) allow_tf32(device_, true);
  }
  ~Tf32Scope() {
    if (on_) allow_tf32(device_, false);
  }
  Tf32Scope(const Tf32Scope&) = delete;
  Tf32Scope& operator=(const Tf32Scope&) = delete;

 private:
  Device device_;
  bool on_;
};

}  // namespace

TrainStep::TrainStep(nn::Module& model, optim::Optimizer& optimizer, const Tensor& step_counter,
                     const TrainStepOptions& options, Device device, Console& console)
    : model_(model),
      optimizer_(optimizer),
      step_counter_(step_counter),
      options_(options),
      device_(device),
      console_(console),
      uploads_(device),
      graphs_(options.graphs && Graph::supported(device)) {
  if (!options.resident)
    staged_ = std::make_unique<StagedPixels>(uploads_, options.batch_size, options.image_size);
  if (options.precision == DType::f16) optimizer.guard().scale_loss();
}

// To the model's input. The step itself begins behind it, and reads the same memory each time.
void TrainStep::load(const data::Batch& batch, Inputs& inputs) {
  const ProfileRange range(device_, "load");
  const Shape n{batch.size};
  const std::int64_t s = options_.image_size;
  if (!inputs.x.defined()) inputs.x = empty({batch.size, s, s, 3}, options_.precision, device_);
  if (options_.resident) {
    send<std::int32_t>(inputs.places, n, options_.resident->places(batch, uploads_), device_);
    preprocess_into(inputs.x, options_.resident->images(), options_.normalization, {}, inputs.places);
  } else {
    preprocess_into(inputs.x, staged_->stage(batch), options_.normalization);
    staged_->consumed();
  }
  send<std::int32_t>(inputs.labels, n, batch.labels, device_);
  if (batch.labels2.empty()) return;
  send<std::int32_t>(inputs.labels2, n, batch.labels2, device_);
  send<float>(inputs.lambda, n, batch.lambda, device_);
}

Tensor TrainStep::loss_of(const Inputs& inputs, bool mixed) {
  CrossEntropyOptions loss_options = options_.loss;
  if (mixed) {
    loss_options.labels2 = inputs.labels2;
    loss_options.lambda = inputs.lambda;
  }
  const ProfileRange range(device_, "forward");
  return softmax_cross_entropy(model_(inputs.x), inputs.labels, loss_options);
}

// Kernels only.
Tensor TrainStep::queue(const Inputs& inputs, bool mixed) {
  const Tf32Scope tf32(device_, options_.tf32);
  Tensor loss = loss_of(inputs, mixed);
  optimizer_.zero_grad();
  {
    const ProfileRange range(device_, "backward");
    loss.backward(optimizer_.guard().scale());
  }
  const ProfileRange range(device_, "optimizer");
  optimizer_.apply(loss);
  return loss;
}

// False where the device or a library refuses: then the step is still to be launched.
bool TrainStep::capture(bool mixed) {
  try {
    graph_ = std::make_unique<Graph>(device_, [&] { graph_loss_ = queue(inputs_, mixed); });
    graph_mixed_ = mixed;
  } catch (const Error& error) {
    graphs_ = false;
    graph_loss_ = {};
    console_.warn("training goes on without a graph, kernel by kernel: " + std::string(error.what()));
  }
  return graphs_;
}

// What dropout draws its masks from.
void TrainStep::send_step_number() {
  const std::int64_t step = optimizer_.steps();
  step_counter_.copy_from<std::int64_t>(std::span(&step, 1));
}

Nonfinite TrainStep::find_nonfinite(const data::Batch& batch) {
  const Tf32Scope tf32(device_, options_.tf32);
  Inputs inputs;
  send_step_number();
  load(batch, inputs);
  Nonfinite found = cairn::find_nonfinite(
      model_, [&] { return loss_of(inputs, !batch.labels2.empty()); }, optimizer_.guard().scale());
  optimizer_.buffers().restore();
  return found;
}

Tensor TrainStep::run(const data::Batch& batch, float lr) {
  const bool whole = batch.size == options_.batch_size, mixed = !batch.labels2.empty();
  send_step_number();
  Inputs own;
  Inputs& inputs = whole ? inputs_ : own;
  load(batch, inputs);
  optimizer_.prepare(lr);
  const bool replay = graph_ ? whole && mixed == graph_mixed_
                             : graphs_ && whole && whole_steps_++ >= kWarmSteps && capture(mixed);
  if (!replay) return queue(inputs, mixed);
  graph_->replay();
  return graph_loss_;
}

}  // namespace cairn::app
