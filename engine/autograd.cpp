#include "engine/autograd.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "engine/dry_run.h"
#include "engine/gradient_hook.h"
#include "engine/profile_range.h"
#include "engine/tape_observer.h"
#include "kernels/pointwise.h"

namespace cairn {
namespace {

thread_local bool grad_mode = true;
thread_local const std::function<void(const TensorImpl&)>* leaf_hook = nullptr;

/// Counts the ops that are still to add to a leaf's gradient, and tells the hook of those that have none
/// left.
class LeafUses {
 public:
  explicit LeafUses(const std::vector<std::shared_ptr<Node>>& order) {
    for (const auto& node : order)
      for (const Node::Input& in : node->inputs)
        if (in.leaf) ++uses_[in.leaf.get()];
  }
  void done(const Node& node) {
    for (const Node::Input& in : node.inputs)
      if (in.leaf && --uses_[in.leaf.get()] == 0) (*leaf_hook)(*in.leaf);
  }

 private:
  std::unordered_map<const TensorImpl*, int> uses_;
};

/// Where a gradient lands: in the producer's node while backward runs, or in the leaf's buffer.
Grads::Target accumulate_into(Tensor& grad, bool& arrived, const Shape& shape, DType dtype, Device device) {
  if (!grad.defined()) grad = empty(shape, dtype, device);
  const bool first = !std::exchange(arrived, true);
  return {grad.inplace(), first ? kernels::Write::assign : kernels::Write::add};
}

}  // namespace

bool grad_enabled() { return grad_mode; }
NoGrad::NoGrad() : previous_(std::exchange(grad_mode, false)) {}
NoGrad::~NoGrad() { grad_mode = previous_; }

GradientHook::GradientHook(std::function<void(const TensorImpl&)> whole) : whole_(std::move(whole)) {
  if (leaf_hook) throw Error("backward: one gradient hook at a time");
  leaf_hook = &whole_;
}
GradientHook::~GradientHook() { leaf_hook = nullptr; }

Node::~Node() {
  // A long chain would otherwise free itself by recursion and run out of stack.
  std::vector<std::shared_ptr<Node>> pending;
  const auto take = [&](Node& node) {
    node.backward = nullptr;
    for (Input& in : node.inputs)
      if (in.producer) pending.push_back(std::move(in.producer));
    node.inputs.clear();
  };
  take(*this);
  while (!pending.empty()) {
    const std::shared_ptr<Node> node = std::move(pending.back());
    pending.pop_back();
    if (node.use_count() == 1) take(*node);
  }
}

Saved::Saved(const Tensor& t) : tensor_(t.detach()), version_(t.defined() ? t.version() : 0) {}

const Tensor& Saved::tensor() const {
  if (tensor_.defined() && tensor_.version() != version_)
    throw Error("backward: a saved tensor of shape " + to_string(tensor_.shape()) +
                " was changed in place after the forward pass; call backward() before the change");
  return tensor_;
}
kernels::ConstView Saved::view() const { return tensor().view(); }

bool wants_grad(std::initializer_list<const Tensor*> inputs) {
  if (!grad_mode) return false;
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor* t) { return t->requires_grad(); });
}

Tensor record(const char* op, Tensor y, std::span<const Tensor> inputs,
              std::function<void(Grads&)> backward) {
  static std::atomic<std::uint64_t> next_sequence{1};
  const bool wanted = grad_mode && std::any_of(inputs.begin(), inputs.end(),
                                               [](const Tensor& t) { return t.requires_grad(); });
  TapeObserver* const observer = TapeObserver::current();
  if (!wanted) {
    if (observer) observer->recorded(op, y, inputs, nullptr);
    return y;
  }
  auto node = std::make_shared<Node>();
  node->op = op;
  if (profiler::on()) node->layer = profiler::layer();
  node->sequence = next_sequence++;
  node->shape = y.shape();
  node->dtype = y.dtype();
  node->device = y.device();
  node->backward = std::move(backward);
  for (const Tensor& t : inputs) {
    Node::Input input;
    if (t.requires_grad()) {
      if (t.impl()->grad_fn)
        input.producer = t.impl()->grad_fn;
      else
        input.leaf = t.impl();
    }
    node->inputs.push_back(std::move(input));
    node->input_shapes.push_back(t.defined() ? t.shape() : Shape());
    node->input_dtypes.push_back(t.defined() ? t.dtype() : DType::f32);
  }
  if (observer) observer->recorded(op, y, inputs, node.get());
  y.impl()->grad_fn = std::move(node);
  return y;
}

Tensor record(const char* op, Tensor y, std::initializer_list<Tensor> inputs,
              std::function<void(Grads&)> backward) {
  return record(op, std::move(y), std::span<const Tensor>(inputs.begin(), inputs.size()),
                std::move(backward));
}

bool Grads::needs(std::size_t input) const {
  const Node::Input& in = node_.inputs.at(input);
  return in.producer || in.leaf;
}

std::optional<Grads::Target> Grads::wants(std::size_t input) {
  const Node::Input& in = node_.inputs.at(input);
  const Shape& shape = node_.input_shapes[input];
  const DType dtype = node_.input_dtypes[input];
  if (in.leaf) return accumulate_into(in.leaf->grad, in.leaf->grad_arrived, shape, dtype, node_.device);
  if (!in.producer) return std::nullopt;
  bool arrived = in.producer->grad.defined();
  return accumulate_into(in.producer->grad, arrived, shape, dtype, node_.device);
}

void Grads::give(std::size_t input, const Tensor& gradient) {
  const Node::Input& in = node_.inputs.at(input);
  // Hand the memory on, unless somebody else holds it too: a later gradient would be added into both.
  if (in.producer && !in.producer->grad.defined() && in.producer->dtype == gradient.dtype() &&
      gradient.impl()->storage.use_count() == 1) {
    in.producer->grad = gradient.alias(node_.input_shapes[input]);
    return;
  }
  if (const auto target = wants(input)) {
    const Tensor source = gradient.alias(target->view.shape);
    call(kernels::cast, compute_queue(node_.device), {source.view(), target->view, target->write});
  }
}

bool dry_run() { return DryRun::current() != nullptr; }

Tensor workspace(std::size_t bytes, Device device) {
  if (DryRun* run = DryRun::current()) run->next_is(DryRun::Kind::workspace);
  return empty({static_cast<std::int64_t>(bytes)}, DType::u8, device);
}

void Tensor::backward(const Tensor& gradient) const {
  if (!impl_ || !impl_->grad_fn)
    throw Error(
        "backward(): the tensor is not the result of a recorded op; does any input require a gradient?");
  const std::shared_ptr<Node> root = impl_->grad_fn;
  if (gradient.defined()) {
    if (gradient.shape() != shape() || gradient.dtype() != dtype())
      throw ShapeError("backward(): gradient is " + to_string(gradient.shape()) + ' ' +
                       name_of(gradient.dtype()) + ", the tensor " + to_string(shape()) + ' ' +
                       name_of(dtype()));
    root->grad = gradient.detach();  // a second holder of the memory: give() must not hand the caller's on
  } else {
    if (numel() != 1)
      throw ShapeError("backward(): the tensor is " + to_string(shape()) +
                       "; only a scalar needs no gradient");
    root->grad = full(shape(), 1.0, dtype(), device());
  }

  // Later ops first: every consumer of a node has a higher sequence number.
  std::vector<std::shared_ptr<Node>> order{root};
  std::unordered_set<const Node*> seen{root.get()};
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (!order[i]->backward)
      throw Error("[" + std::string(order[i]->op) +
                  "] backward() ran already and freed what it needs; run the forward pass again");
    for (const Node::Input& in : order[i]->inputs)
      if (in.producer && seen.insert(in.producer.get()).second) order.push_back(in.producer);
  }
  std::sort(order.begin(), order.end(),
            [](const auto& a, const auto& b) { return a->sequence > b->sequence; });

  const NoGrad no_grad;
  TapeObserver* const observer = TapeObserver::current();
  std::optional<LeafUses> uses;
  if (leaf_hook) uses.emplace(order);
  for (std::shared_ptr<Node>& node : order) {
    if (node->grad.defined()) {
      const ProfileRange range(device(), node->op, node->layer.c_str());
      Grads grads(*node);
      if (observer) observer->before_backward(*node);
      node->backward(grads);
      if (observer) observer->after_backward(*node);
    }
    if (uses) uses->done(*node);
    node->backward = nullptr;
    node->grad = Tensor();
    node.reset();
  }
}

}  // namespace cairn
