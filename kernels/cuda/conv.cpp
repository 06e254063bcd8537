#include "kernels/cuda/conv.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "kernels/backend.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/pad_channels.h"
#include "kernels/cuda/status.h"
#include "kernels/pointwise.h"
#include "kernels/scratch.h"

// The provider of convolutions through cuDNN: arguments -> graph -> plan -> execute. cuDNN wants one dtype
// for x, w and y: for 16-bit types the fp32 weights are rounded into scratch, and their gradient, which comes
// out in 16 bits, is widened as it lands. Where cuDNN has no plan, the plain kernels that filled the slots
// before serve, with a warning.

namespace cairn::kernels::cudnn {
namespace {

// ---- state of a device ----

struct DeviceState {
  explicit DeviceState(int index) : plans(DeviceDescription::of_device(index), PlanFiles::of_user()) {
    check(cudnnCreate(&handle), "creating a handle");
  }
  PlanCache plans;
  std::mutex mutex;  // of the handle: its stream is set for each call
  cudnnHandle_t handle = nullptr;
};

/// Made on first use and kept: queued work may outlive any owner.
DeviceState& state(int index) {
  static std::mutex mutex;
  static auto& states = *new std::map<int, std::unique_ptr<DeviceState>>;
  const std::lock_guard lock(mutex);
  auto& slot = states[index];
  if (!slot) {
    if (const Status s = cuda_status(cudaSetDevice(index), "choosing the device"); !s.ok())
      throw std::runtime_error(s.message());
    slot = std::make_unique<DeviceState>(index);
  }
  return *slot;
}

/// The plain kernels, as they were before this provider took their places.
struct PlainKernels {
  KernelSlot<Conv2dForward>::Entry forward[kDTypeCount];
  KernelSlot<Conv2dBackwardData>::Entry backward_data[kDTypeCount];
  KernelSlot<Conv2dBackwardWeight>::Entry backward_weight[kDTypeCount];
};
PlainKernels plain;
const auto& plain_of(const Conv2dForward& a) { return plain.forward[static_cast<int>(a.dtype())]; }
const auto& plain_of(const Conv2dBackwardData& a) { return plain.backward_data[static_cast<int>(a.dtype())]; }
const auto& plain_of(const Conv2dBackwardWeight& a) {
  return plain.backward_weight[static_cast<int>(a.dtype())];
}

const char* name_of(const Conv2dForward&) { return conv2d_forward.name(); }
const char* name_of(const Conv2dBackwardData&) { return conv2d_backward_data.name(); }
const char* name_of(const Conv2dBackwardWeight&) { return conv2d_backward_weight.name(); }

// ---- graphs ----

constexpr std::int64_t kChannelMultiple = 8;

std::int64_t padded(DType t, const Conv2dGeometry& g, std::int64_t channels) {
  if (t == DType::f32 || g.groups != 1) return channels;
  return (channels + kChannelMultiple - 1) / kChannelMultiple * kChannelMultiple;
}

void copy_dims(std::int64_t (&to)[4], const Shape& from) { std::copy_n(from.dims.begin(), 4, to); }

/// The largest power of two up to 16 that divides every address; what lies in scratch has more.
std::int32_t alignment_of(std::initializer_list<const void*> pointers) {
  std::uintptr_t bits = 16;
  for (const void* p : pointers) bits |= reinterpret_cast<std::uintptr_t>(p);
  return static_cast<std::int32_t>(bits & (~bits + 1));
}

ConvGraph make_graph(Pass pass, DType t, const Shape& x, const Shape& w, const Shape& y,
                     const Conv2dGeometry& geometry, bool tf32) {
  ConvGraph g;
  copy_dims(g.x, x);
  copy_dims(g.w, w);
  copy_dims(g.y, y);
  g.x[3] = padded(t, geometry, g.x[3]);
  g.w[3] = padded(t, geometry, g.w[3]);
  g.stride[0] = geometry.stride_h, g.stride[1] = geometry.stride_w;
  g.padding[0] = geometry.padding_h, g.padding[1] = geometry.padding_w;
  g.dilation[0] = geometry.dilation_h, g.dilation[1] = geometry.dilation_w;
  g.pass = pass;
  g.dtype = static_cast<std::int32_t>(t);
  g.tf32 = tf32 && t == DType::f32;
  return g;
}

bool pads(const ConvGraph& g, const Shape& x) { return g.x[3] != x[3]; }
Shape shape_of(const std::int64_t (&d)[4]) { return {d[0], d[1], d[2], d[3]}; }

// ---- pieces of scratch ----

/// A tensor as cuDNN takes it: the caller's own, or a copy in scratch that is made before (or read after).
struct Piece {
  View view;
  bool copied = false;
};
Piece piece(const ConstView& v, DType t, const Shape& shape, Scratch& scratch) {
  if (v.dtype == t && v.shape == shape) return {{const_cast<void*>(v.data), t, shape}, false};
  return {scratch.take_view(t, shape), true};
}
/// Between a tensor and its copy: dtype and channels may differ.
Status convert(const Queue& queue, const ConstView& from, const View& to, Write write = Write::assign) {
  if (from.shape == to.shape) return cast(queue, {from, to, write});
  return pad_channels(queue, {from, to, write});
}

struct ForwardPieces {
  ForwardPieces(const Conv2dForward& a, const ConvGraph& g, Scratch& scratch)
      : x(piece(a.x, g.type(), shape_of(g.x), scratch)),
        w(piece(a.w, g.type(), shape_of(g.w), scratch)),
        bias(a.bias ? piece(a.bias, g.type(), a.bias.shape, scratch) : Piece{}) {}
  Piece x, w, bias;
};
struct DataPieces {
  DataPieces(const Conv2dBackwardData& a, const ConvGraph& g, Scratch& scratch)
      : w(piece(a.w, g.type(), shape_of(g.w), scratch)), dx(piece(a.dx, g.type(), shape_of(g.x), scratch)) {}
  Piece w, dx;
};
struct WeightPieces {
  WeightPieces(const Conv2dBackwardWeight& a, const ConvGraph& g, Scratch& scratch)
      : x(piece(a.x, g.type(), shape_of(g.x), scratch)), dw(piece(a.dw, g.type(), shape_of(g.w), scratch)) {}
  Piece x, dw;
};
ForwardPieces pieces_of(const Conv2dForward& a, const ConvGraph& g, Scratch& s) { return {a, g, s}; }
DataPieces pieces_of(const Conv2dBackwardData& a, const ConvGraph& g, Scratch& s) { return {a, g, s}; }
WeightPieces pieces_of(const Conv2dBackwardWeight& a, const ConvGraph& g, Scratch& s) { return {a, g, s}; }

ColumnSums bias_sums(const Conv2dBackwardWeight& a) {
  return {.x = a.dy, .y = a.dbias, .write = a.dbias_write};
}
std::size_t reduction_bytes(const Queue&, const Conv2dForward&) { return 0; }
std::size_t reduction_bytes(const Queue&, const Conv2dBackwardData&) { return 0; }
std::size_t reduction_bytes(const Queue& queue, const Conv2dBackwardWeight& a) {
  return a.dbias ? column_sums.workspace(queue, bias_sums(a)) : 0;
}

// ---- the passes, with their tensors in the order of uids_of ----

struct Call {
  const Queue& queue;
  const Plan& plan;
  const ConvGraph& graph;
  void* workspace;

  void operator()(std::initializer_list<const void*> tensors) const {
    std::vector<void*> pointers;
    for (const void* t : tensors)
      if (t) pointers.push_back(const_cast<void*>(t));
    DeviceState& device = state(queue.device.index);
    const std::lock_guard lock(device.mutex);
    check(cudnnSetStream(device.handle, static_cast<cudaStream_t>(queue.stream)), "choosing the stream");
    plan.execute(device.handle, uids_of(graph), pointers, plan.workspace > 0 ? workspace : nullptr);
  }
};

Status run(const Call& call, const Conv2dForward& a, const ForwardPieces& p) {
  if (p.x.copied)
    if (Status s = convert(call.queue, a.x, p.x.view); !s.ok()) return s;
  if (p.w.copied)
    if (Status s = convert(call.queue, a.w, p.w.view); !s.ok()) return s;
  if (p.bias.copied)
    if (Status s = convert(call.queue, a.bias, p.bias.view); !s.ok()) return s;
  const ConvGraph& g = call.graph;
  call({p.x.view.data, p.w.view.data, a.y.data, g.residual ? a.residual.data : nullptr,
        g.bias ? p.bias.view.data : nullptr});
  // What the graph has not fused: y = relu(y + residual + bias) in place.
  const auto add = [&](const ConstView& b) {
    return binary_forward(call.queue, {.op = BinaryOp::add, .a = a.y, .b = b, .y = a.y});
  };
  if (a.residual && !g.residual)
    if (Status s = add(a.residual); !s.ok()) return s;
  if (a.bias && !g.bias) {
    ConstView row = p.bias.view;
    row.shape = {1, 1, 1, a.bias.shape[0]};
    if (Status s = add(row); !s.ok()) return s;
  }
  if (a.activation == Activation::relu && !g.relu) return relu_forward(call.queue, {a.y, a.y});
  return {};
}

Status run(const Call& call, const Conv2dBackwardData& a, const DataPieces& p) {
  if (p.w.copied)
    if (Status s = convert(call.queue, a.w, p.w.view); !s.ok()) return s;
  call({p.dx.view.data, p.w.view.data, a.dy.data});
  return p.dx.copied ? convert(call.queue, p.dx.view, a.dx, a.write) : Status();
}

Status run(const Call& call, const Conv2dBackwardWeight& a, const WeightPieces& p) {
  if (p.x.copied)
    if (Status s = convert(call.queue, a.x, p.x.view); !s.ok()) return s;
  call({p.x.view.data, p.dw.view.data, a.dy.data});
  if (p.dw.copied)
    if (Status s = convert(call.queue, p.dw.view, a.dw, a.write); !s.ok()) return s;
  if (!a.dbias) return {};
  // cuDNN's workspace has served: the reduction is queued behind it.
  ColumnSums sums = bias_sums(a);
  sums.scratch = call.workspace;
  sums.scratch_bytes = reduction_bytes(call.queue, a);
  return column_sums(call.queue, sums);
}

// ---- slots ----

bool empty(const Conv2dForward& a) { return a.x.numel() == 0 || a.y.numel() == 0; }
bool empty(const Conv2dBackwardData& a) { return a.dx.numel() == 0 || a.dy.numel() == 0; }
bool empty(const Conv2dBackwardWeight& a) { return a.x.numel() == 0 || a.dy.numel() == 0; }

/// The graph that serves, with its plan: as fused as cuDNN can, else without the epilogue, else none.
struct Choice {
  ConvGraph graph;
  std::shared_ptr<const MaybePlan> found;
  explicit operator bool() const { return found && found->plan; }
};
template <class Args>
Choice choose(const Queue& queue, const Args& a) {
  if (empty(a)) return {};
  PlanCache& plans = state(queue.device.index).plans;
  Choice c{graph_of(a, queue.allow_tf32), nullptr};
  c.found = plans.get(c.graph);
  if (!c && (c.graph.bias || c.graph.residual || c.graph.relu)) {
    c.graph.bias = c.graph.residual = c.graph.relu = 0;
    c.found = plans.get(c.graph);
  }
  return c;
}

/// Plain kernels serve instead of cuDNN: said once a graph.
void warn_plain(const Choice& c) {
  static std::mutex mutex;
  static auto& said = *new std::set<ConvGraph>;
  const std::lock_guard lock(mutex);
  if (said.insert(c.graph).second)
    std::fprintf(stderr, "warning: a plain convolution, many times slower, is used: %s\n",
                 c.found->why.c_str());
}

template <class Args>
std::size_t workspace_cuda(const Queue& queue, const Args& a) {
  try {
    if (const Choice c = choose(queue, a)) {
      Scratch scratch;
      (void)pieces_of(a, c.graph, scratch);
      return scratch.used() + std::max(c.found->plan->workspace, reduction_bytes(queue, a));
    }
  } catch (const std::exception&) {
    return 0;  // run() meets it again, and reports it
  }
  const auto& entry = plain_of(a);
  return entry.workspace ? entry.workspace(queue, a) : 0;
}

template <class Args>
Status run_cuda(const Queue& queue, const Args& a) {
  Choice c;
  try {
    c = choose(queue, a);
    if (c) {
      Scratch scratch(a.scratch);
      const auto pieces = pieces_of(a, c.graph, scratch);
      return run(Call{queue, *c.found->plan, c.graph, scratch.take(0)}, a, pieces);
    }
    if (c.found) warn_plain(c);
  } catch (const std::exception& e) {
    return Status::error("[" + std::string(name_of(a)) + "] " + e.what() + " (" + to_string(c.graph) + ")");
  }
  const auto& entry = plain_of(a);
  if (!entry.run)
    return Status::error("[" + std::string(name_of(a)) + "] neither cuDNN nor a plain kernel serves this: " +
                             (c.found ? c.found->why : "an empty tensor"),
                         Status::Code::no_kernel);
  return entry.run(queue, a);
}

}  // namespace

ConvGraph graph_of(const Conv2dForward& a, bool tf32) {
  ConvGraph g = make_graph(Pass::fprop, a.dtype(), a.x.shape, a.w.shape, a.y.shape, a.geometry, tf32);
  // cuDNN's precompiled kernels fuse a bias, with or without the rest; the rest alone wants its compiler.
  g.bias = static_cast<bool>(a.bias);
  g.residual = a.bias && a.residual;
  g.relu = a.bias && a.activation == Activation::relu;
  const bool wide = a.dtype() == DType::f32;
  g.alignment = alignment_of({pads(g, a.x.shape) ? nullptr : a.x.data, wide ? a.w.data : nullptr,
                              wide ? a.bias.data : nullptr, a.residual.data, a.y.data});
  return g;
}

ConvGraph graph_of(const Conv2dBackwardData& a, bool tf32) {
  ConvGraph g = make_graph(Pass::dgrad, a.dtype(), a.dx.shape, a.w.shape, a.dy.shape, a.geometry, tf32);
  const bool copied = pads(g, a.dx.shape);
  g.add = a.write == Write::add && !copied;  // a copy is added as it lands
  g.alignment =
      alignment_of({a.dy.data, a.dtype() == DType::f32 ? a.w.data : nullptr, copied ? nullptr : a.dx.data});
  return g;
}

ConvGraph graph_of(const Conv2dBackwardWeight& a, bool tf32) {
  ConvGraph g = make_graph(Pass::wgrad, a.dtype(), a.x.shape, a.dw.shape, a.dy.shape, a.geometry, tf32);
  const bool copied = a.dtype() != DType::f32;
  g.add = a.write == Write::add && !copied;
  g.alignment =
      alignment_of({a.dy.data, pads(g, a.x.shape) ? nullptr : a.x.data, copied ? nullptr : a.dw.data});
  return g;
}

CacheCounts plan_counts(int device_index) { return state(device_index).plans.counts(); }

}  // namespace cairn::kernels::cudnn

extern "C" int cairn_provider_start(char* text, std::size_t size) {
  using namespace cairn::kernels;
  using cairn::DType;
  const auto version = static_cast<long>(cudnnGetVersion());
  // The attributes used here came with 9.19's headers; a newer library of the same major version has them.
  if (version < CUDNN_VERSION || version / 10000 != CUDNN_MAJOR) {
    std::snprintf(text, size, "cuDNN %ld.%ld.%ld was found, this build needs %d.%d.%d or newer of version %d",
                  version / 10000, version / 100 % 100, version % 100, CUDNN_MAJOR, CUDNN_MINOR,
                  CUDNN_PATCHLEVEL, CUDNN_MAJOR);
    return 1;
  }
  for (const DType t : {DType::f32, DType::bf16, DType::f16}) {
    const auto i = static_cast<int>(t);
    cudnn::plain.forward[i] = conv2d_forward.fill(kCudaDevice, t, &cudnn::run_cuda<Conv2dForward>,
                                                  &cudnn::workspace_cuda<Conv2dForward>);
    cudnn::plain.backward_data[i] = conv2d_backward_data.fill(
        kCudaDevice, t, &cudnn::run_cuda<Conv2dBackwardData>, &cudnn::workspace_cuda<Conv2dBackwardData>);
    cudnn::plain.backward_weight[i] = conv2d_backward_weight.fill(
        kCudaDevice, t, &cudnn::run_cuda<Conv2dBackwardWeight>, &cudnn::workspace_cuda<Conv2dBackwardWeight>);
  }
  std::snprintf(text, size, "cuDNN %ld.%ld.%ld%s", version / 10000, version / 100 % 100, version % 100,
                kStandIn);
  return 0;
}
