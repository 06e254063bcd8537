// ReLU both ways, dropout, cast and the copy that bounds them all.
#include "kernels/pointwise.h"

#include <cstring>

#include "bench/kernels/bench.h"
#include "kernels/cpu/parallel.h"
#include "kernels/dropout.h"

namespace cairn::bench {
namespace {

using namespace kernels;

dnnl::memory flat(Buffer& b) {
  const View v = b.view();
  return onednn::wrap(onednn::dense({v.numel()}, v.dtype), v.data);
}

struct Tensors {
  Tensors(DType t, const Shape& s) : x(t, s, 1), dy(t, s, 2), y(t, s), other(t, s) {}
  Buffer x, dy, y, other;
};

void add_copy(const Shape& shape, DType t) {
  const auto keep = std::make_shared<Tensors>(t, shape);
  const Job copy = [a = keep->y.data(), b = keep->x.data(), n = static_cast<std::int64_t>(keep->x.bytes())] {
    parallel_for(n, 1 << 16, [&](std::int64_t begin, std::int64_t end, int) {
      std::memcpy(static_cast<char*>(a) + begin, static_cast<const char*>(b) + begin,
                  static_cast<std::size_t>(end - begin));
    });
  };
  add_row(row_name("copy", shape, t) + "memcpy", copy, keep, 2.0 * static_cast<double>(keep->x.bytes()));
}

void add_relu(const Shape& shape, DType t) {
  const auto k = std::make_shared<Tensors>(t, shape);
  const double bytes = static_cast<double>(k->x.bytes());
  const Job ours = cairn_job(relu_forward, ReluForward{k->x.view(), k->y.view()});
  const dnnl::memory::desc desc = onednn::dense({shape.numel()}, t);
  const auto kind = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
  const auto pd =
      onednn::describe<dnnl::eltwise_forward>({}, kind, dnnl::algorithm::eltwise_relu, desc, desc, 0.0f);
  const auto pd_back = onednn::describe_hinted<dnnl::eltwise_backward>({}, pd, dnnl::algorithm::eltwise_relu,
                                                                       desc, desc, desc, 0.0f);
#else
  const auto pd =
      onednn::describe<dnnl::eltwise_forward>({}, kind, dnnl::algorithm::eltwise_relu, desc, 0.0f);
  const auto pd_back = onednn::describe_hinted<dnnl::eltwise_backward>({}, pd, dnnl::algorithm::eltwise_relu,
                                                                       desc, desc, 0.0f);
#endif
  const Job theirs =
      onednn_job(dnnl::eltwise_forward(pd), {{DNNL_ARG_SRC, flat(k->x)}, {DNNL_ARG_DST, flat(k->other)}});
  require_equal("relu_forward", ours, k->y, theirs, k->other, 0);
  const std::string name = row_name("relu_forward", shape, t);
  add_row(name + "cairn", ours, k, 2 * bytes);
  add_row(name + "oneDNN", theirs, k, 2 * bytes);

  const auto b = std::make_shared<Tensors>(t, shape);
  const Job back = cairn_job(relu_backward, ReluBackward{b->x.view(), b->dy.view(), b->y.view()});
  const Job their_back = onednn_job(
      dnnl::eltwise_backward(pd_back),
      {{DNNL_ARG_SRC, flat(b->x)}, {DNNL_ARG_DIFF_DST, flat(b->dy)}, {DNNL_ARG_DIFF_SRC, flat(b->other)}});
  require_equal("relu_backward", back, b->y, their_back, b->other, 0);
  const std::string back_name = row_name("relu_backward", shape, t);
  add_row(back_name + "cairn", back, b, 3 * bytes);
  add_row(back_name + "oneDNN", their_back, b, 3 * bytes);
}

// oneDNN has no dropout: beside it stands the copy.
void add_dropout(const Shape& shape, DType t) {
  const auto k = std::make_shared<Tensors>(t, shape);
  add_row(
      row_name("dropout", shape, t) + "cairn",
      cairn_job(dropout,
                Dropout{.x = k->x.view(), .y = k->y.view(), .p = 0.25f, .seed = 1, .stream = 2, .step = {}}),
      k, 2.0 * static_cast<double>(k->x.bytes()));
}

void add_cast(const Shape& shape) {
  struct Pair {
    explicit Pair(const Shape& s) : x(DType::f32, s), y(DType::bf16, s), other(DType::bf16, s) {}
    Buffer x, y, other;
  };
  const auto k = std::make_shared<Pair>(shape);
  const double bytes = static_cast<double>(k->x.bytes() + k->y.bytes());
  const Job ours = cairn_job(cast, Cast{k->x.view(), k->y.view()});
  const auto reorder = std::make_shared<onednn::Reorder>(onednn::dense({shape.numel()}, DType::f32),
                                                         onednn::dense({shape.numel()}, DType::bf16));
  const auto pad =
      std::make_shared<Buffer>(DType::u8, Shape{static_cast<std::int64_t>(reorder->scratchpad_bytes())});
  const Job theirs = [k, reorder, pad] { reorder->run(k->x.data(), k->other.data(), pad->data()); };
  require_equal("cast", ours, k->y, theirs, k->other, 0);
  const std::string name = row_name("cast_to", shape, DType::bf16);
  add_row(name + "cairn", ours, k, bytes);
  add_row(name + "oneDNN", theirs, k, bytes);
}

}  // namespace

void register_pointwise() {
  // ResNet-18's first and last stage and ModelCNN's first block, at batch 32 (a quarter of it for the
  // largest).
  for (const Shape& shape : {Shape{32, 56, 56, 64}, Shape{32, 7, 7, 512}, Shape{8, 224, 224, 32}}) {
    for (const DType t : {DType::f32, DType::bf16}) {
      add_copy(shape, t);
      add_relu(shape, t);
      add_dropout(shape, t);
    }
    add_cast(shape);
  }
}

}  // namespace cairn::bench
