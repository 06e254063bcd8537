#include "apps/train_step.h"

#include <algorithm>
#include <span>

#include "engine/autograd.h"
#include "engine/profile_range.h"
#include "kernels/error.h"
#include "kernels/pointwise.h"

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
  if (shared() && options.loss.class_weights.defined())
    class_weights_ = options.loss.class_weights.to_vector<float>();
  if (options.precision == DType::f16) optimizer.guard().scale_loss();
}

// To the model's input. The step itself begins behind it, and reads the same memory each time.
void TrainStep::load(const data::Batch& batch, Inputs& inputs) {
  const ProfileRange range(device_, "load");
  const Shape n{batch.size};
  const std::int64_t s = options_.image_size;
  if (shared())
    send<float>(inputs.shares, {options_.pieces + 1}, std::span<const float>(shares_of(batch)), device_);
  if (batch.size == 0) return;
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

// The loss is a mean over the batch, weighted by the images' classes if those have weights: what a piece's
// own mean counts in it.
std::vector<float> TrainStep::shares_of(const data::Batch& batch) const {
  const auto weight = [&](std::int32_t label) {
    return class_weights_.empty() ? 1.0 : static_cast<double>(class_weights_[label]);
  };
  const auto pieces = static_cast<std::size_t>(options_.pieces);
  std::vector<double> sums(pieces + 1);
  for (std::int64_t n = 0; n < batch.size; ++n) {
    const auto i = static_cast<std::size_t>(n);
    double w = weight(batch.labels[i]);
    if (!batch.labels2.empty()) {
      const double lambda = static_cast<double>(batch.lambda[i]);
      w = lambda * w + (1 - lambda) * weight(batch.labels2[i]);
    }
    sums[i * pieces / static_cast<std::size_t>(options_.batch_size)] += w;
    sums[pieces] += w;
  }
  double all = static_cast<double>(batch.global_size);
  if (!class_weights_.empty()) {
    all = sums[pieces];
    if (options_.processes.communicator) options_.processes.communicator->sum(std::span(&all, 1));
  }
  std::vector<float> shares;
  for (const double sum : sums) shares.push_back(static_cast<float>(sum / all));
  return shares;
}

// The images at the same places in every batch. Undefined where a partial batch ends before them.
TrainStep::Inputs TrainStep::piece_of(const Inputs& inputs, std::int64_t piece) const {
  const std::int64_t images = inputs.x.defined() ? inputs.x.size(0) : 0;
  const auto edge = [&](std::int64_t p) {
    return std::min(options_.batch_size * p / options_.pieces, images);
  };
  const std::int64_t begin = edge(piece), n = edge(piece + 1) - begin;
  if (n == images) return inputs;
  Inputs part;
  if (n == 0) return part;
  const auto cut = [&](const Tensor& t) { return t.defined() ? t.alias({n}, begin) : Tensor(); };
  const std::int64_t s = options_.image_size;
  part.x = inputs.x.alias({n, s, s, 3}, begin * s * s * 3);
  part.labels = cut(inputs.labels);
  part.labels2 = cut(inputs.labels2);
  part.lambda = cut(inputs.lambda);
  return part;
}

// What a process computes on that has no images in an epoch's last batch, so that all make the same calls:
// two grey ones, since batch norm needs more than one value.
TrainStep::Inputs TrainStep::stand_in() const {
  const std::int64_t s = options_.image_size;
  Inputs grey;
  grey.x = zeros({2, s, s, 3}, options_.precision, device_);
  grey.labels = zeros({2}, DType::i32, device_);
  return grey;
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

// Forward and backward of each piece, whose gradients add up; with the last one's backward the sums over the
// processes travel.
Tensor TrainStep::accumulate(const Inputs& inputs, bool mixed) {
  const StepProcesses& others = options_.processes;
  const auto share = [&](std::int64_t i) { return inputs.shares.alias({1}, i); };
  Tensor sum;  // of the pieces' losses by their shares
  for (std::int64_t p = 0; p < options_.pieces; ++p) {
    Inputs part = piece_of(inputs, p);
    const bool empty_piece = !part.x.defined();
    if (empty_piece && !others.collective) break;
    if (empty_piece) part = stand_in();
    if (others.collective) others.collective->set_counts(!empty_piece);
    if (options_.pieces > 1) {
      nn::RandomState random = options_.random;
      random.first_image += options_.batch_size * p / options_.pieces;
      model_.set_random_state(random);
    }
    const Tensor loss = loss_of(part, mixed && !empty_piece);
    const Tensor counted = mul(loss.detach(), share(p));
    sum = sum.defined() ? add(sum, counted) : counted;
    const Tensor scale = optimizer_.guard().scale();  // undefined without loss scaling
    const Tensor gradient = scale.defined() ? mul(scale, share(p)) : share(p);
    const ProfileRange range(device_, "backward");
    if (!others.collective || p + 1 < options_.pieces) {
      loss.backward(gradient);
      continue;
    }
    others.collective->start_sum(sum);
    if (const Tensor& t = others.averaged; t.defined()) {
      call(kernels::binary_forward, t.queue(),
           {kernels::BinaryOp::mul, t.view(), share(options_.pieces).view(), t.inplace()});
      others.collective->start_sum(t);
    }
    others.gradients->backward(loss, gradient);
  }
  return sum;
}

// Kernels only.
Tensor TrainStep::queue(const Inputs& inputs, bool mixed) {
  const Tf32Scope tf32(device_, options_.tf32);
  optimizer_.zero_grad();
  Tensor loss;
  if (shared()) {
    loss = accumulate(inputs, mixed);
  } else {
    loss = loss_of(inputs, mixed);
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
  if (options_.pieces > 1) model_.set_random_state(options_.random);
  if (batch.size == 0) inputs = stand_in();
  if (distributed::Collective* c = options_.processes.collective) c->set_counts(batch.size > 0);
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
