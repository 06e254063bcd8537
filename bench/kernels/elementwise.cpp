// Functions of one tensor and sums of two, against oneDNN's eltwise and binary.
#include "bench/kernels/bench.h"
#include "kernels/pointwise.h"

namespace cairn::bench {
namespace {

using namespace kernels;

struct Tensors {
  Tensors(DType t, const Shape& s) : a(t, s, 1), b(t, s, 2), y(t, s), other(t, s) {}
  Buffer a, b, y, other;
};

dnnl::memory::desc flat_desc(const Buffer& b, DType t) {
  return onednn::dense({static_cast<std::int64_t>(b.bytes() / size_of(t))}, t);
}

void add_unary(const char* op, UnaryOp ours_op, dnnl::algorithm theirs_op, const Shape& shape, DType t) {
  const auto k = std::make_shared<Tensors>(t, shape);
  const dnnl::memory::desc desc = flat_desc(k->a, t);
  const auto kind = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
  const auto pd = onednn::describe<dnnl::eltwise_forward>({}, kind, theirs_op, desc, desc, 0.0f);
#else
  const auto pd = onednn::describe<dnnl::eltwise_forward>({}, kind, theirs_op, desc, 0.0f);
#endif
  const Job ours = cairn_job(unary_forward, UnaryForward{ours_op, k->a.view(), k->y.view()});
  const Job theirs = onednn_job(
      dnnl::eltwise_forward(pd),
      {{DNNL_ARG_SRC, onednn::wrap(desc, k->a.data())}, {DNNL_ARG_DST, onednn::wrap(desc, k->other.data())}});
  require_equal(op, ours, k->y, theirs, k->other, tolerance_of(t));
  const double bytes = 2.0 * static_cast<double>(k->a.bytes());
  add_row(row_name(op, shape, t) + "cairn", ours, k, bytes);
  add_row(row_name(op, shape, t) + "oneDNN", theirs, k, bytes);
}

void add_sum(const Shape& shape, DType t) {
  const auto k = std::make_shared<Tensors>(t, shape);
  const dnnl::memory::desc desc = flat_desc(k->a, t);
  const auto pd = onednn::describe<dnnl::binary>({}, dnnl::algorithm::binary_add, desc, desc, desc);
  const Job ours =
      cairn_job(binary_forward, BinaryForward{BinaryOp::add, k->a.view(), k->b.view(), k->y.view()});
  const Job theirs = onednn_job(dnnl::binary(pd), {{DNNL_ARG_SRC_0, onednn::wrap(desc, k->a.data())},
                                                   {DNNL_ARG_SRC_1, onednn::wrap(desc, k->b.data())},
                                                   {DNNL_ARG_DST, onednn::wrap(desc, k->other.data())}});
  require_equal("add", ours, k->y, theirs, k->other, tolerance_of(t));
  const double bytes = 3.0 * static_cast<double>(k->a.bytes());
  add_row(row_name("add", shape, t) + "cairn", ours, k, bytes);
  add_row(row_name("add", shape, t) + "oneDNN", theirs, k, bytes);
}

}  // namespace

void register_elementwise() {
  const Shape shape{32, 56, 56, 64};
  for (const DType t : {DType::f32, DType::bf16}) {
    add_unary("exp", UnaryOp::exp, dnnl::algorithm::eltwise_exp, shape, t);
    add_unary("sigmoid", UnaryOp::sigmoid, dnnl::algorithm::eltwise_logistic, shape, t);
    add_unary("tanh", UnaryOp::tanh, dnnl::algorithm::eltwise_tanh, shape, t);
    add_sum(shape, t);
  }
}

}  // namespace cairn::bench
