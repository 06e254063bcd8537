#include "kernels/conv.h"

#if !defined(CAIRN_KERNELS_F64)  // conv_plain.cpp serves fp64

#include <algorithm>
#include <optional>

#include "kernels/cpu/conv_problem.h"
#include "kernels/cpu/fill.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cpu/winograd.h"
#include "kernels/pointwise.h"
#include "kernels/reduce.h"

// Convolutions through oneDNN. Activations stay plain NHWC, in which oneDNN is as fast as in its own layouts;
// weights go from fp32 KRSC to the layout (and dtype) that the primitive prefers in one reorder. Where oneDNN
// has no bf16 kernel, the tensors are widened to fp32 in scratch. What winograd.h is faster at goes there.

namespace cairn::kernels {
namespace {
using namespace onednn;

// ---- plans ----

/// One pass of one convolution. Without a primitive it has to be done in fp32.
struct Plan {
  dnnl::primitive primitive;
  memory::desc x, w, y, bias, scratchpad;
  Reorder reorder;               // of the weights in, or of their gradient out
  bool residual_by_sum = false;  // y must hold the residual before
  explicit operator bool() const { return static_cast<bool>(primitive); }
};
using PlanPtr = std::shared_ptr<const Plan>;

/// ResNet-18 has 11 different convolutions, 31 passes: room for some batch sizes and dtypes.
PlanCache<Plan>& cache() {
  static PlanCache<Plan> cache(512);
  return cache;
}

template <class Make>
PlanPtr cached_plan(const Key& key, DType t, Make&& make) {
  static const auto none = std::make_shared<const Plan>();
  if (t == DType::bf16 && !has_bf16()) return none;
  return cache().get(key, make);
}

/// The descriptor, or nothing where oneDNN has only its reference loops for it: they are far slower than a
/// detour through fp32.
template <class Make>
auto describe_fast(Make&& make) -> std::optional<decltype(make())> {
  try {
    auto desc = make();
    if (!std::string(desc.impl_info_str()).starts_with("ref")) return desc;
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented) throw;
  }
  return std::nullopt;
}

dnnl::convolution_forward::primitive_desc describe_forward(const Problem& p, const memory::desc& bias,
                                                           const dnnl::post_ops& ops = {}) {
  const Geometry g(p.geometry);
  dnnl::primitive_attr attr = user_scratch();
  attr.set_post_ops(ops);
  return describe<dnnl::convolution_forward>(
      attr, dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, p.x_desc(),
      p.w_desc(p.dtype), bias, p.y_desc(), g.strides, g.dilations, g.padding, g.padding);
}

bool residual_in_place(const Conv2dForward& a) { return a.residual && a.residual.data == a.y.data; }

Plan make_plan(const Conv2dForward& a) {
  const Problem p = problem_of(a);
  const bool has_residual = static_cast<bool>(a.residual);
  Plan plan;
  plan.bias = bias_desc(static_cast<bool>(a.bias), p.w[0]);
  const auto make = [&] {
    dnnl::post_ops ops;
    if (has_residual && plan.residual_by_sum) ops.append_sum(1.0f);
    if (has_residual && !plan.residual_by_sum) ops.append_binary(dnnl::algorithm::binary_add, p.y_desc());
    if (a.activation == Activation::relu) append_relu(ops);
    return describe_forward(p, plan.bias, ops);
  };
  // A residual that lies elsewhere is read by the primitive as it goes; some primitives cannot do that, and
  // oneDNN 2.6's GEMM convolution takes the first group's part for every group.
  plan.residual_by_sum = residual_in_place(a) || p.geometry.groups > 1;
  auto desc = describe_fast(make);
  if (!desc && has_residual && !plan.residual_by_sum) {
    plan.residual_by_sum = true;
    desc = describe_fast(make);
  }
  if (!desc && p.dtype == DType::bf16) return {};
  if (!desc) desc = make();
  plan.primitive = dnnl::convolution_forward(*desc);
  plan.x = desc->src_desc();
  plan.w = desc->weights_desc();
  plan.y = desc->dst_desc();
  plan.scratchpad = desc->scratchpad_desc();
  plan.reorder = Reorder(krsc_desc(p.w, p.geometry.groups), plan.w);
  return plan;
}

Plan make_plan(const Conv2dBackwardData& a) {
  const Problem p = problem_of(a);
  const Geometry g(p.geometry);
  const memory::desc dx_desc = nhwc_desc(p.x, a.dx.dtype);
  const auto make = [&] {
    return describe_hinted<dnnl::convolution_backward_data>(
        user_scratch(), describe_forward(p, {}), dnnl::algorithm::convolution_direct, dx_desc,
        p.w_desc(p.dtype), p.y_desc(), g.strides, g.dilations, g.padding, g.padding);
  };
  auto desc = describe_fast(make);
  if (!desc && p.dtype == DType::bf16) return {};
  if (!desc) desc = make();
  Plan plan;
  plan.primitive = dnnl::convolution_backward_data(*desc);
  plan.x = desc->diff_src_desc();
  plan.w = desc->weights_desc();
  plan.y = desc->diff_dst_desc();
  plan.scratchpad = desc->scratchpad_desc();
  plan.reorder = Reorder(krsc_desc(p.w, p.geometry.groups), plan.w);
  return plan;
}

Plan make_plan(const Conv2dBackwardWeight& a) {
  const Problem p = problem_of(a);
  const Geometry g(p.geometry);
  Plan plan;
  plan.bias = bias_desc(static_cast<bool>(a.dbias), p.w[0]);
  const auto make = [&] {
    return describe_hinted<dnnl::convolution_backward_weights>(
        user_scratch(), describe_forward(p, plan.bias), dnnl::algorithm::convolution_direct, p.x_desc(),
        p.w_desc(DType::f32), plan.bias, p.y_desc(), g.strides, g.dilations, g.padding, g.padding);
  };
  auto desc = describe_fast(make);
  if (!desc && p.dtype == DType::bf16) return {};
  if (!desc) desc = make();
  plan.primitive = dnnl::convolution_backward_weights(*desc);
  plan.x = desc->src_desc();
  plan.w = desc->diff_weights_desc();
  plan.y = desc->diff_dst_desc();
  plan.scratchpad = desc->scratchpad_desc();
  plan.reorder = Reorder(plan.w, krsc_desc(p.w, p.geometry.groups), a.write == Write::add);
  return plan;
}

PlanPtr plan_of(const Conv2dForward& a) {
  Key key = key_of(kForward, problem_of(a));
  key << static_cast<bool>(a.bias) << static_cast<bool>(a.residual) << residual_in_place(a)
      << static_cast<std::int64_t>(a.activation);
  return cached_plan(key, a.dtype(), [&] { return make_plan(a); });
}
PlanPtr plan_of(const Conv2dBackwardData& a) {
  Key key = key_of(kBackwardData, problem_of(a));
  key << static_cast<std::int64_t>(a.dx.dtype);
  return cached_plan(key, a.dtype(), [&] { return make_plan(a); });
}
PlanPtr plan_of(const Conv2dBackwardWeight& a) {
  Key key = key_of(kBackwardWeight, problem_of(a));
  key << static_cast<bool>(a.dbias) << static_cast<std::int64_t>(a.write);
  return cached_plan(key, a.dtype(), [&] { return make_plan(a); });
}

// ---- scratch ----

/// What every pass needs: the weights (or their gradient) in the primitive's layout, unless they are there
/// already, and its own scratchpad.
struct Pieces {
  Pieces(const Plan& plan, Scratch& scratch, bool packed = false)
      : weights(plan.reorder && !packed ? scratch.take(plan.w.get_size()) : nullptr),
        own(scratch.take(std::max(plan.scratchpad.get_size(), plan.reorder.scratchpad_bytes()))) {}
  void* weights;
  void* own;
};

const void* weights_for(const Plan& plan, const Pieces& pieces, const ConstView& w,
                        const void* packed = nullptr) {
  if (packed) return packed;
  if (!plan.reorder) return w.data;
  plan.reorder.run(w.data, pieces.weights, pieces.own);
  return pieces.weights;
}

/// The same arguments on fp32 copies.
Conv2dForward widened(const Conv2dForward& a, Scratch& scratch) {
  Conv2dForward wide = a;
  wide.packed = nullptr;  // there is none: workspace() answered 0
  wide.x = scratch.take_fp32(a.x);
  wide.residual = scratch.take_fp32(a.residual);
  wide.y = scratch.take_fp32(a.y);
  return wide;
}
Conv2dBackwardData widened(const Conv2dBackwardData& a, Scratch& scratch) {
  Conv2dBackwardData wide = a;
  wide.dy = scratch.take_fp32(a.dy);
  wide.dx = scratch.take_fp32(a.dx);
  wide.write = Write::assign;
  return wide;
}
Conv2dBackwardWeight widened(const Conv2dBackwardWeight& a, Scratch& scratch) {
  Conv2dBackwardWeight wide = a;
  wide.x = scratch.take_fp32(a.x);
  wide.dy = scratch.take_fp32(a.dy);
  return wide;
}
Status copy_to(const Queue& queue, const ConstView& from, const ConstView& to) {
  return from ? cast(queue, {from, {const_cast<void*>(to.data), to.dtype, to.shape}}) : Status();
}

/// A dgrad that adds goes through fp32 scratch, some images at a time so that the piece stays in the caches:
/// 4 MiB is within two threads' share of L2 and L3 and leaves enough work for one call.
std::int64_t images_at_once(const Conv2dBackwardData& a) {
  constexpr std::int64_t kElements = 1 << 20;
  const std::int64_t n = a.dx.shape[0];
  return std::clamp<std::int64_t>(kElements * n / a.dx.numel(), 1, n);
}
template <class V>
V images(const V& v, std::int64_t begin, std::int64_t count) {
  using Byte = std::conditional_t<std::is_same_v<V, View>, std::byte, const std::byte>;
  V part = v;
  part.shape[0] = count;
  const auto first = static_cast<std::size_t>(begin * (v.numel() / v.shape[0]));
  part.data = static_cast<Byte*>(v.data) + first * size_of(v.dtype);
  return part;
}
/// dx of `count` images from `begin`, assigned to `dx`.
Conv2dBackwardData part_of(const Conv2dBackwardData& a, std::int64_t begin, std::int64_t count, View dx) {
  Conv2dBackwardData part = a;
  part.dy = images(a.dy, begin, count);
  dx.shape[0] = count;
  part.dx = dx;
  part.write = Write::assign;
  return part;
}
View part_scratch(const Conv2dBackwardData& a, Scratch& scratch) {
  return scratch.take_view(DType::f32, images(a.dx, 0, images_at_once(a)).shape);
}

std::size_t workspace(const Conv2dForward& a) {
  if (winograd::suits(a)) return winograd::workspace(a);
  const PlanPtr plan = plan_of(a);
  Scratch scratch;
  if (!*plan) {
    const Conv2dForward wide = widened(a, scratch);
    return scratch.used() + workspace(wide);
  }
  Pieces(*plan, scratch, a.packed != nullptr);
  return scratch.used();
}

/// The packed weights, and behind them what their reorder needs for itself.
std::size_t workspace(const Conv2dPack& a) {
  if (winograd::suits(a.forward)) return winograd::packed_bytes(a.forward);
  const PlanPtr plan = plan_of(a.forward);
  Scratch scratch;
  if (*plan && plan->reorder) Pieces(*plan, scratch);
  return scratch.used();
}

std::size_t workspace(const Conv2dBackwardData& a) {
  if (winograd::suits(a)) return winograd::workspace(a);
  Scratch scratch;
  if (!*plan_of(a)) {
    const Conv2dBackwardData wide = widened(a, scratch);
    return scratch.used() + workspace(wide);
  }
  if (a.write == Write::assign) {
    Pieces(*plan_of(a), scratch);
    return scratch.used();
  }
  const std::int64_t n = a.dx.shape[0], count = images_at_once(a);
  const View part_dx = part_scratch(a, scratch);
  std::size_t most = workspace(part_of(a, 0, count, part_dx));
  if (n % count) most = std::max(most, workspace(part_of(a, 0, n % count, part_dx)));
  return scratch.used() + most;
}

/// dbias where the primitive does not make it: sums of dy, as fp32, over all but the last axis.
Reduce column_sums(const Conv2dBackwardWeight& a, const ConstView& dy) {
  Reduce r{.op = ReduceOp::sum, .x = dy, .y = a.dbias, .write = a.dbias_write};
  r.y.shape = {1, 1, 1, a.dbias.shape[0]};
  return r;
}
ConstView dy_as_fp32(const Conv2dBackwardWeight& a, Scratch& scratch) {
  return a.dtype() == DType::f32 ? a.dy : scratch.take_fp32(a.dy);
}

std::size_t workspace(const Conv2dBackwardWeight& a) {
  Scratch scratch;
  if (winograd::suits(a)) {
    if (!a.dbias) return winograd::workspace(a);
    const Reduce sums = column_sums(a, dy_as_fp32(a, scratch));
    return std::max(winograd::workspace(a), scratch.used() + reduce.workspace(Queue(), sums));
  }
  const PlanPtr plan = plan_of(a);
  if (!*plan) {
    const Conv2dBackwardWeight wide = widened(a, scratch);
    return scratch.used() + workspace(wide);
  }
  Pieces(*plan, scratch);
  if (a.dbias_write == Write::add) scratch.take_fp32(a.dbias);
  return scratch.used();
}

// ---- the passes ----

template <class Args>
Args with_scratch_after(Args a, const Scratch& scratch, void* base) {
  a.scratch = static_cast<std::byte*>(base) + scratch.used();
  a.scratch_bytes -= scratch.used();
  return a;
}

Status run(const Queue& queue, const Conv2dForward& a) {
  const Problem p = problem_of(a);
  if (p.y.numel() == 0) return {};
  if (winograd::suits(a)) {
    winograd::run(a);
    return {};
  }
  const PlanPtr plan = plan_of(a);
  Scratch scratch(a.scratch);
  if (!*plan) {
    const Conv2dForward wide = with_scratch_after(widened(a, scratch), scratch, a.scratch);
    if (Status s = copy_to(queue, a.x, wide.x); !s.ok()) return s;
    if (Status s = copy_to(queue, a.residual, wide.residual); !s.ok()) return s;
    if (Status s = run(queue, wide); !s.ok()) return s;
    return copy_to(queue, wide.y, a.y);
  }
  const Pieces pieces(*plan, scratch, a.packed != nullptr);
  if (plan->residual_by_sum && !residual_in_place(a))
    if (Status s = copy_to(queue, a.residual, a.y); !s.ok()) return s;
  const void* weights = weights_for(*plan, pieces, a.w, a.packed);
  std::unordered_map<int, memory> args{{DNNL_ARG_SRC, wrap(plan->x, a.x.data)},
                                       {DNNL_ARG_WEIGHTS, wrap(plan->w, weights)},
                                       {DNNL_ARG_DST, wrap(plan->y, a.y.data)},
                                       {DNNL_ARG_SCRATCHPAD, wrap(plan->scratchpad, pieces.own)}};
  if (a.bias) args.emplace(DNNL_ARG_BIAS, wrap(plan->bias, a.bias.data));
  if (a.residual && !plan->residual_by_sum)
    args.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, wrap(plan->y, a.residual.data));
  plan->primitive.execute(stream(), args);
  return {};
}

Status run(const Queue&, const Conv2dPack& a) {
  if (winograd::suits(a.forward)) {
    winograd::pack(a.forward, a.scratch);
    return {};
  }
  const PlanPtr plan = plan_of(a.forward);
  Scratch scratch(a.scratch);
  const Pieces pieces(*plan, scratch);
  plan->reorder.run(a.forward.w.data, pieces.weights, pieces.own);
  return {};
}

Status run(const Queue& queue, const Conv2dBackwardData& a) {
  const Problem p = problem_of(a);
  if (p.x.numel() == 0) return {};
  if (p.empty()) return a.write == Write::assign ? fill_value(queue, {a.dx, 0}) : Status();
  if (winograd::suits(a)) {
    winograd::run(a);
    return {};
  }
  const PlanPtr plan = plan_of(a);
  Scratch scratch(a.scratch);
  if (!*plan) {
    const Conv2dBackwardData wide = with_scratch_after(widened(a, scratch), scratch, a.scratch);
    if (Status s = copy_to(queue, a.dy, wide.dy); !s.ok()) return s;
    if (Status s = run(queue, wide); !s.ok()) return s;
    return cast(queue, {wide.dx, a.dx, a.write});
  }
  if (a.write == Write::add) {
    const std::int64_t n = a.dx.shape[0], count = images_at_once(a);
    const View part_dx = part_scratch(a, scratch);
    for (std::int64_t begin = 0; begin < n; begin += count) {
      const std::int64_t some = std::min(count, n - begin);
      const Conv2dBackwardData part =
          with_scratch_after(part_of(a, begin, some, part_dx), scratch, a.scratch);
      if (Status s = run(queue, part); !s.ok()) return s;
      if (Status s = cast(queue, {part.dx, images(a.dx, begin, some), Write::add}); !s.ok()) return s;
    }
    return {};
  }
  const Pieces pieces(*plan, scratch);
  const void* weights = weights_for(*plan, pieces, a.w);
  plan->primitive.execute(stream(), {{DNNL_ARG_DIFF_DST, wrap(plan->y, a.dy.data)},
                                     {DNNL_ARG_WEIGHTS, wrap(plan->w, weights)},
                                     {DNNL_ARG_DIFF_SRC, wrap(plan->x, a.dx.data)},
                                     {DNNL_ARG_SCRATCHPAD, wrap(plan->scratchpad, pieces.own)}});
  return {};
}

Status run(const Queue& queue, const Conv2dBackwardWeight& a) {
  const Problem p = problem_of(a);
  if (p.empty()) {
    if (a.write == Write::assign && a.dw.numel() > 0)
      if (Status s = fill_value(queue, {a.dw, 0}); !s.ok()) return s;
    return a.dbias && a.dbias_write == Write::assign && a.dbias.numel() > 0 ? fill_value(queue, {a.dbias, 0})
                                                                            : Status();
  }
  if (winograd::suits(a)) {
    winograd::run(a);
    if (!a.dbias) return {};
    Scratch scratch(a.scratch);  // what the pass above needed is free again
    const ConstView dy = dy_as_fp32(a, scratch);
    if (dy.data != a.dy.data)
      if (Status s = copy_to(queue, a.dy, dy); !s.ok()) return s;
    Reduce sums = column_sums(a, dy);
    sums.scratch = static_cast<std::byte*>(a.scratch) + scratch.used();
    sums.scratch_bytes = a.scratch_bytes - scratch.used();
    return reduce(queue, sums);
  }
  const PlanPtr plan = plan_of(a);
  Scratch scratch(a.scratch);
  if (!*plan) {
    const Conv2dBackwardWeight wide = with_scratch_after(widened(a, scratch), scratch, a.scratch);
    if (Status s = copy_to(queue, a.x, wide.x); !s.ok()) return s;
    if (Status s = copy_to(queue, a.dy, wide.dy); !s.ok()) return s;
    return run(queue, wide);
  }
  const Pieces pieces(*plan, scratch);
  const bool add_bias = a.dbias && a.dbias_write == Write::add;
  const View dbias = add_bias ? scratch.take_fp32(a.dbias) : a.dbias;
  std::unordered_map<int, memory> args{
      {DNNL_ARG_SRC, wrap(plan->x, a.x.data)},
      {DNNL_ARG_DIFF_DST, wrap(plan->y, a.dy.data)},
      {DNNL_ARG_DIFF_WEIGHTS, wrap(plan->w, plan->reorder ? pieces.weights : a.dw.data)},
      {DNNL_ARG_SCRATCHPAD, wrap(plan->scratchpad, pieces.own)}};
  if (a.dbias) args.emplace(DNNL_ARG_DIFF_BIAS, wrap(plan->bias, dbias.data));
  plan->primitive.execute(stream(), args);
  if (plan->reorder) plan->reorder.run(pieces.weights, a.dw.data, pieces.own);
  return add_bias ? cast(queue, {dbias, a.dbias, Write::add}) : Status();
}

template <class Args>
Status conv_cpu(const char* op, const Queue& queue, const Args& a) {
  return guarded(
      op, [&] { return problem_of(a).describe(); }, [&] { return run(queue, a); });
}
template <class Args>
std::size_t conv_workspace(const Queue&, const Args& a) {
  return guarded_size([&] { return problem_of(a).empty() ? 0 : workspace(a); });
}

const FillCpu kFillForward{
    conv2d_forward,
    [](const Queue& queue, const Conv2dForward& a) { return conv_cpu("conv2d_forward", queue, a); },
    &conv_workspace<Conv2dForward>};
const FillCpu kFillPack{
    conv2d_pack, [](const Queue& queue, const Conv2dPack& a) { return conv_cpu("conv2d_pack", queue, a); },
    &conv_workspace<Conv2dPack>};
const FillCpu kFillBackwardData{conv2d_backward_data,
                                [](const Queue& queue, const Conv2dBackwardData& a) {
                                  return conv_cpu("conv2d_backward_data", queue, a);
                                },
                                &conv_workspace<Conv2dBackwardData>};
const FillCpu kFillBackwardWeight{conv2d_backward_weight,
                                  [](const Queue& queue, const Conv2dBackwardWeight& a) {
                                    return conv_cpu("conv2d_backward_weight", queue, a);
                                  },
                                  &conv_workspace<Conv2dBackwardWeight>};

}  // namespace
}  // namespace cairn::kernels

#endif
