#include "kernels/gemm.h"

#if !defined(CAIRN_KERNELS_F64)  // gemm_plain.cpp serves fp64

#include <algorithm>
#include <utility>

#include "kernels/cpu/fill.h"
#include "kernels/cpu/onednn.h"
#include "kernels/pointwise.h"

// Matrix products through oneDNN's matmul. All four slots are one product y = act(op(a) op(b) + bias): the
// transposes are strides, and only fp32 weights that meet bf16 activations are rounded, into the layout that
// the primitive prefers. Where oneDNN has no bf16, everything is widened to fp32 in scratch.

namespace cairn::kernels {
namespace {
using namespace onednn;
using dnnl::memory;

/// y [M,N] or [B,M,N] = act(op(a) op(b) + bias [N]). a and y may be bf16 or fp32, b a's dtype or fp32.
struct Product {
  const char* op;
  ConstView a, b;
  View y;
  bool transpose_a = false, transpose_b = false;
  ConstView bias{};
  Activation activation = Activation::none;
  Write write = Write::assign;
  const void* packed = nullptr;  // b as the plan wants it
};

Product product_of(const LinearForward& l) {
  return {.op = "linear_forward",
          .a = l.x,
          .b = l.w,
          .y = l.y,
          .transpose_b = true,
          .bias = l.bias,
          .activation = l.activation,
          .packed = l.packed};
}
Product product_of(const LinearBackwardData& l) {
  return {.op = "linear_backward_data", .a = l.dy, .b = l.w, .y = l.dx, .write = l.write};
}
Product product_of(const LinearBackwardWeight& l) {
  return {
      .op = "linear_backward_weight", .a = l.dy, .b = l.x, .y = l.dw, .transpose_a = true, .write = l.write};
}
Product product_of(const Matmul& m) {
  return {.op = "matmul",
          .a = m.a,
          .b = m.b,
          .y = m.y,
          .transpose_a = m.transpose_a,
          .transpose_b = m.transpose_b,
          .write = m.write};
}

std::string describe_problem(const Product& p) {
  return std::string("a") + to_string(p.a.shape) + (p.transpose_a ? "^T " : " ") + name_of(p.a.dtype) +
         ", b" + to_string(p.b.shape) + (p.transpose_b ? "^T " : " ") + name_of(p.b.dtype) + ", y" +
         to_string(p.y.shape) + ' ' + name_of(p.y.dtype);
}

/// The layout of a row-major matrix (or batch of them) as the product sees it.
memory::desc matrix_desc(const ConstView& v, bool transposed) {
  const int last = v.shape.rank - 1;
  memory::dims dims(v.shape.dims.begin(), v.shape.dims.begin() + v.shape.rank);
  memory::dims strides(dims.size(), 1);
  for (int i = last; i-- > 0;) strides[i] = strides[i + 1] * dims[i + 1];
  if (transposed) {
    std::swap(dims[last], dims[last - 1]);
    std::swap(strides[last], strides[last - 1]);
  }
  return {dims, type_of(v.dtype), strides};
}

/// Without a primitive the product has to be done in fp32.
struct Plan {
  dnnl::primitive primitive;
  memory::desc a, b, y, bias, scratchpad;
  Reorder round_b;
  explicit operator bool() const { return static_cast<bool>(primitive); }
};
using PlanPtr = std::shared_ptr<const Plan>;

Plan make_plan(const Product& p) {
  const bool rounds = p.a.dtype != p.b.dtype;
  Plan plan;
  plan.a = matrix_desc(p.a, p.transpose_a);
  plan.y = matrix_desc(p.y, false);
  const memory::desc given_b = matrix_desc(p.b, p.transpose_b);
  const auto any_b = [&] {
    const int last = p.b.shape.rank - 1;
    memory::dims dims(p.b.shape.dims.begin(), p.b.shape.dims.begin() + p.b.shape.rank);
    if (p.transpose_b) std::swap(dims[last], dims[last - 1]);
    return any_layout(dims, p.a.dtype);
  };
  memory::dims bias_dims(static_cast<std::size_t>(p.y.shape.rank), 1);
  bias_dims.back() = p.y.shape[p.y.shape.rank - 1];
  if (p.bias) plan.bias = dense(bias_dims, DType::f32);
  dnnl::post_ops ops;
  if (p.write == Write::add) ops.append_sum(1.0f);
  if (p.activation == Activation::relu) append_relu(ops);
  dnnl::primitive_attr attr = user_scratch();
  attr.set_post_ops(ops);
  try {
    const auto desc =
        p.bias ? describe<dnnl::matmul>(attr, plan.a, rounds ? any_b() : given_b, plan.bias, plan.y)
               : describe<dnnl::matmul>(attr, plan.a, rounds ? any_b() : given_b, plan.y);
    plan.b = desc.weights_desc();
    plan.scratchpad = desc.scratchpad_desc();
    plan.primitive = dnnl::matmul(desc);
    plan.round_b = Reorder(given_b, plan.b);
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented || p.a.dtype != DType::bf16) throw;
    return {};
  }
  return plan;
}

PlanPtr plan_of(const Product& p) {
  // A few layers and attention-sized products in each of three passes.
  static PlanCache<Plan> cache(256);
  static const auto none = std::make_shared<const Plan>();
  if (p.a.dtype == DType::bf16 && !has_bf16()) return none;
  Key key;
  key << static_cast<std::int64_t>(p.a.dtype) << static_cast<std::int64_t>(p.b.dtype)
      << static_cast<std::int64_t>(p.y.dtype) << p.y.shape.rank << p.a.shape << p.b.shape << p.y.shape
      << p.transpose_a << p.transpose_b << static_cast<bool>(p.bias)
      << static_cast<std::int64_t>(p.activation) << static_cast<std::int64_t>(p.write);
  return cache.get(key, [&] { return make_plan(p); });
}

struct Pieces {
  Pieces(const Plan& plan, Scratch& scratch, bool packed = false)
      : b(plan.round_b && !packed ? scratch.take(plan.b.get_size()) : nullptr),
        own(scratch.take(std::max(plan.scratchpad.get_size(), plan.round_b.scratchpad_bytes()))) {}
  void* b;
  void* own;
};

/// The same product on fp32 copies of what is not fp32.
Product widened(const Product& p, Scratch& scratch) {
  Product wide = p;
  wide.packed = nullptr;  // there is none: linear_pack answered 0
  if (p.a.dtype != DType::f32) wide.a = scratch.take_fp32(p.a);
  if (p.b.dtype != DType::f32) wide.b = scratch.take_fp32(p.b);
  if (p.y.dtype != DType::f32) {
    wide.y = scratch.take_fp32(p.y);
    wide.write = Write::assign;
  }
  return wide;
}

bool empty(const Product& p) { return p.a.numel() == 0 || p.b.numel() == 0; }

std::size_t workspace(const Product& p) {
  if (empty(p)) return 0;
  const PlanPtr plan = plan_of(p);
  Scratch scratch;
  if (!*plan) {
    const Product wide = widened(p, scratch);
    return scratch.used() + workspace(wide);
  }
  Pieces(*plan, scratch, p.packed != nullptr);
  return scratch.used();
}

Status widen(const Queue& queue, const ConstView& from, const ConstView& to) {
  if (from.data == to.data) return {};
  return cast(queue, {from, {const_cast<void*>(to.data), to.dtype, to.shape}});
}

Status run(const Queue& queue, const Product& p, void* base) {
  if (p.y.numel() == 0) return {};
  if (empty(p)) return p.write == Write::assign ? fill_value(queue, {p.y, 0}) : Status();
  const PlanPtr plan = plan_of(p);
  Scratch scratch(base);
  if (!*plan) {
    const Product wide = widened(p, scratch);
    if (Status s = widen(queue, p.a, wide.a); !s.ok()) return s;
    if (Status s = widen(queue, p.b, wide.b); !s.ok()) return s;
    if (Status s = run(queue, wide, static_cast<std::byte*>(base) + scratch.used()); !s.ok()) return s;
    return wide.y.data == p.y.data ? Status() : cast(queue, {wide.y, p.y, p.write});
  }
  const Pieces pieces(*plan, scratch, p.packed != nullptr);
  const void* b = p.packed ? p.packed : plan->round_b ? pieces.b : p.b.data;
  if (pieces.b) plan->round_b.run(p.b.data, pieces.b, pieces.own);
  std::unordered_map<int, memory> args{{DNNL_ARG_SRC, wrap(plan->a, p.a.data)},
                                       {DNNL_ARG_WEIGHTS, wrap(plan->b, b)},
                                       {DNNL_ARG_DST, wrap(plan->y, p.y.data)},
                                       {DNNL_ARG_SCRATCHPAD, wrap(plan->scratchpad, pieces.own)}};
  if (p.bias) args.emplace(DNNL_ARG_BIAS, wrap(plan->bias, p.bias.data));
  plan->primitive.execute(stream(), args);
  return {};
}

template <class Args>
Status product_cpu(const Queue& queue, const Args& args) {
  const Product p = product_of(args);
  return guarded(
      p.op, [&] { return describe_problem(p); }, [&] { return run(queue, p, args.scratch); });
}
template <class Args>
std::size_t product_workspace(const Queue&, const Args& args) {
  return guarded_size([&] { return workspace(product_of(args)); });
}

/// The packed weights, and behind them what their reorder needs for itself.
std::size_t pack_workspace(const Queue&, const LinearPack& a) {
  return guarded_size([&]() -> std::size_t {
    const Product p = product_of(a.forward);
    if (empty(p)) return 0;
    const PlanPtr plan = plan_of(p);
    Scratch scratch;
    if (*plan && plan->round_b) Pieces(*plan, scratch);
    return scratch.used();
  });
}
Status pack_cpu(const Queue&, const LinearPack& a) {
  const Product p = product_of(a.forward);
  return guarded(
      "linear_pack", [&] { return describe_problem(p); },
      [&]() -> Status {
        const PlanPtr plan = plan_of(p);
        Scratch scratch(a.scratch);
        const Pieces pieces(*plan, scratch);
        plan->round_b.run(p.b.data, pieces.b, pieces.own);
        return {};
      });
}

// dbias = column sums of dy. reduce answers in dy's dtype, dbias is fp32: a product with a row of ones sums
// in fp32 and lands in fp32.
Product column_sums(const LinearBackwardWeight& a, const ConstView& ones) {
  View row = a.dbias;
  row.shape = {1, a.dbias.shape[0]};
  return {.op = "linear_backward_weight", .a = ones, .b = a.dy, .y = row, .write = a.dbias_write};
}
View ones_of(const LinearBackwardWeight& a, Scratch& scratch) {
  return scratch.take_view(a.dy.dtype, {1, a.dy.shape[0]});
}

std::size_t backward_weight_workspace(const Queue&, const LinearBackwardWeight& a) {
  return guarded_size([&] {
    const std::size_t weight = workspace(product_of(a));
    if (!a.dbias) return weight;
    Scratch scratch;
    const View ones = ones_of(a, scratch);
    return std::max(weight, scratch.used() + workspace(column_sums(a, ones)));
  });
}

Status backward_weight_cpu(const Queue& queue, const LinearBackwardWeight& a) {
  if (Status s = product_cpu(queue, a); !s.ok() || !a.dbias) return s;
  Scratch scratch(a.scratch);
  const View ones = ones_of(a, scratch);
  if (Status s = fill_value(queue, {ones, 1.0}); !s.ok()) return s;
  const Product p = column_sums(a, ones);
  return guarded(
      p.op, [&] { return describe_problem(p); },
      [&] { return run(queue, p, static_cast<std::byte*>(a.scratch) + scratch.used()); });
}

const FillCpu kFillForward{linear_forward, &product_cpu<LinearForward>, &product_workspace<LinearForward>};
const FillCpu kFillPack{linear_pack, &pack_cpu, &pack_workspace};
const FillCpu kFillBackwardData{linear_backward_data, &product_cpu<LinearBackwardData>,
                                &product_workspace<LinearBackwardData>};
const FillCpu kFillBackwardWeight{linear_backward_weight, &backward_weight_cpu, &backward_weight_workspace};
const FillCpu kFillMatmul{matmul, &product_cpu<Matmul>, &product_workspace<Matmul>};

}  // namespace
}  // namespace cairn::kernels

#endif
