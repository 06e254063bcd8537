#pragma once
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/profiler.h"
#include "engine/tensor.h"

namespace cairn {

class Grads;

/// One recorded op. `sequence` orders the tape; the graph is held by its outputs and freed with them.
struct Node {
  struct Input {
    std::shared_ptr<Node> producer;    // the op that made the input, or
    std::shared_ptr<TensorImpl> leaf;  // the leaf that it is; both null where no gradient is wanted
  };
  const char* op = "";
  std::uint64_t sequence = 0;
  std::vector<Input> inputs;
  std::vector<Shape> input_shapes;
  std::vector<DType> input_dtypes;
  Shape shape;  // of the output
  DType dtype = DType::f32;
  Device device;
  std::function<void(Grads&)> backward;
  Tensor grad;        // of the output, while backward runs
  std::string layer;  // that made it, where a recording (engine/profiler.h) is under way
  ~Node();
};

/// What an op's backward is given: the gradient of its output and, for each input that wants one, where its
/// gradient lands and whether it assigns or adds.
class Grads {
 public:
  struct Target {
    kernels::View view;
    kernels::Write write;
  };
  explicit Grads(Node& node) : node_(node) {}

  kernels::ConstView output() const { return node_.grad.view(); }
  const Tensor& output_tensor() const { return node_.grad; }
  bool needs(std::size_t input) const;
  /// Empty if nobody wants input's gradient. Otherwise the caller must write it, now, whole.
  std::optional<Target> wants(std::size_t input);
  /// The gradient of `input` is `gradient` itself (its shape, perhaps seen under another one): hands the
  /// memory on where it can, else copies or adds. `gradient` must not be changed afterwards.
  void give(std::size_t input, const Tensor& gradient);

 private:
  Node& node_;
};

/// A tensor that backward will read. view() throws if it was overwritten in between.
class Saved {
 public:
  Saved() = default;
  Saved(const Tensor&
            t);  // NOLINT(google-explicit-constructor): `[x = Saved(x)]` and plain assignment both read well
  bool defined() const { return tensor_.defined(); }
  kernels::ConstView view() const;
  const Tensor& tensor() const;

 private:
  Tensor tensor_;
  std::uint64_t version_ = 0;
};

bool grad_enabled();
/// While one lives, this thread records nothing.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool previous_;
};

/// True if an op on these inputs has to be recorded.
bool wants_grad(std::initializer_list<const Tensor*> inputs);

/// Puts y on the tape as op(inputs) if any input wants a gradient; else just returns y. Undefined inputs are
/// allowed.
Tensor record(const char* op, Tensor y, std::initializer_list<Tensor> inputs,
              std::function<void(Grads&)> backward);
Tensor record(const char* op, Tensor y, std::span<const Tensor> inputs, std::function<void(Grads&)> backward);

/// Memory that a kernel works in, and nobody reads afterwards.
Tensor workspace(std::size_t bytes, Device device);
/// Whether kernels are only asked for what they need (engine/dry_run.h).
bool dry_run();

/// Runs a kernel: asks for its scratch, takes it from the caching allocator, throws if the kernel fails.
template <class Args>
void call(const kernels::KernelSlot<Args>& slot, const kernels::Queue& queue,
          std::type_identity_t<Args> args) {
  Tensor scratch;
  if constexpr (requires { args.scratch_bytes; }) {
    args.scratch_bytes = slot.workspace(queue, args);
    if (args.scratch_bytes > 0) {
      scratch = workspace(args.scratch_bytes, queue.device);
      args.scratch = scratch.out().data;
    }
  }
  if (dry_run()) return;
  if (!profiler::on()) return check(slot(queue, args));
  synchronize(queue.device);
  const double begin = profiler::now();
  check(slot(queue, args));
  synchronize(queue.device);
  profiler::add(slot.name(), begin, work_of(args));
}

}  // namespace cairn
