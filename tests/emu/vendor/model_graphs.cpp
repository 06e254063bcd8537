#include "tests/emu/vendor/model_graphs.h"

#include <algorithm>
#include <cstring>

#include "engine/ops.h"
#include "kernels/cuda/conv.h"
#include "models/registry.h"

namespace cairn::kernels::cudnn {
namespace {

/// The calls of a training step with one image.
struct Calls {
  std::vector<Conv2dForward> forward;
  std::vector<Conv2dBackwardData> backward_data;
  std::vector<Conv2dBackwardWeight> backward_weight;
};
Calls* noted = nullptr;

void clear(const View& v) { std::memset(v.data, 0, static_cast<std::size_t>(v.numel()) * size_of(v.dtype)); }

template <class Args>
Status note(const Queue&, const Args& a) {
  if constexpr (std::is_same_v<Args, Conv2dForward>) {
    noted->forward.push_back(a);
    clear(a.y);
  } else if constexpr (std::is_same_v<Args, Conv2dBackwardData>) {
    noted->backward_data.push_back(a);
    clear(a.dx);
  } else {
    noted->backward_weight.push_back(a);
    clear(a.dw);
    if (a.dbias) clear(a.dbias);
  }
  return {};
}

/// Puts a noting kernel in a slot's place for as long as it lives.
template <class Args>
class Noting {
 public:
  explicit Noting(KernelSlot<Args>& slot)
      : slot_(slot), before_(slot.fill(DeviceType::cpu, DType::f32, &note<Args>)) {}
  ~Noting() { slot_.fill(DeviceType::cpu, DType::f32, before_.run, before_.workspace); }
  Noting(const Noting&) = delete;
  Noting& operator=(const Noting&) = delete;

 private:
  KernelSlot<Args>& slot_;
  typename KernelSlot<Args>::Entry before_;
};

Calls note_models() {
  Calls calls;
  noted = &calls;
  const Noting forward(conv2d_forward);
  const Noting backward_data(conv2d_backward_data);
  const Noting backward_weight(conv2d_backward_weight);
  for (const char* name : {"resnet18", "resnet_classes", "model_cnn"}) {
    const auto model = models::make_model(name, {.classes = 7, .image_size = 224});
    Tensor step = zeros({1}, DType::i64);
    model->set_random_state({.seed = 0, .step = step});
    const Tensor x = zeros({1, 224, 224, 3}, DType::f32);
    const Tensor logits = (*model)(x);
    sum(logits).backward();
  }
  noted = nullptr;
  return calls;
}

/// A tensor that exists, in the compute dtype, with `batch` images; its memory is not looked at.
template <class V>
void become(V& v, std::int64_t batch, DType dtype) {
  if (!v) return;
  v.data = reinterpret_cast<decltype(v.data)>(std::uintptr_t{4096});
  v.dtype = dtype;
  v.shape[0] = batch;
}
template <class V>
void forget(V& v) {
  if (v) v.data = reinterpret_cast<decltype(v.data)>(std::uintptr_t{4096});
}

}  // namespace

std::vector<ConvGraph> graphs_of_models(std::int64_t batch, const Precision& precision) {
  static const Calls calls = note_models();
  std::vector<ConvGraph> graphs;
  for (Conv2dForward a : calls.forward) {
    become(a.x, batch, precision.dtype);
    become(a.y, batch, precision.dtype);
    forget(a.w);
    forget(a.bias);
    graphs.push_back(graph_of(a, precision.tf32));
  }
  for (Conv2dBackwardData a : calls.backward_data) {
    become(a.dy, batch, precision.dtype);
    become(a.dx, batch, precision.dtype);
    forget(a.w);
    graphs.push_back(graph_of(a, precision.tf32));
  }
  for (Conv2dBackwardWeight a : calls.backward_weight) {
    become(a.x, batch, precision.dtype);
    become(a.dy, batch, precision.dtype);
    forget(a.dw);
    graphs.push_back(graph_of(a, precision.tf32));
  }
  std::sort(graphs.begin(), graphs.end());
  graphs.erase(std::unique(graphs.begin(), graphs.end()), graphs.end());
  return graphs;
}

}  // namespace cairn::kernels::cudnn
