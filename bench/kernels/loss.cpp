// Softmax, and softmax cross-entropy with its gradient.
#include "kernels/loss.h"

#include "bench/kernels/bench.h"

namespace cairn::bench {
namespace {

using namespace kernels;

struct Tensors {
  explicit Tensors(const Shape& s)
      : x(DType::f32, s, 1),
        y(DType::f32, s),
        other(DType::f32, s),
        labels(DType::i32, {s[0]}),
        loss(DType::f32, {1}),
        dlogits(DType::f32, s) {}
  Buffer x, y, other, labels, loss, dlogits;
};

void add(const Shape& shape) {
  const auto k = std::make_shared<Tensors>(shape);
  const double bytes = 2.0 * static_cast<double>(k->x.bytes());
  const dnnl::memory::desc desc = onednn::dense({shape[0], shape[1]}, DType::f32);
  const auto kind = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
  using Peer = dnnl::softmax_forward;
  const auto pd = onednn::describe<Peer>({}, kind, dnnl::algorithm::softmax_accurate, desc, desc, 1);
#else
  using Peer = dnnl::softmax_v2_forward;
  const auto pd = onednn::describe<Peer>({}, kind, dnnl::algorithm::softmax_accurate, desc, desc, 1);
#endif
  const Job ours = cairn_job(softmax, Softmax{k->x.view(), k->y.view()});
  const Job theirs = onednn_job(Peer(pd), {{DNNL_ARG_SRC, onednn::wrap(desc, k->x.data())},
                                           {DNNL_ARG_DST, onednn::wrap(desc, k->other.data())}});
  require_equal("softmax", ours, k->y, theirs, k->other, 1e-5f);
  add_row(row_name("softmax", shape, DType::f32) + "cairn", ours, k, bytes);
  add_row(row_name("softmax", shape, DType::f32) + "oneDNN", theirs, k, bytes);
  // oneDNN has no cross-entropy: its softmax above is the nearest.
  add_row(row_name("softmax_cross_entropy", shape, DType::f32) + "cairn",
          cairn_job(softmax_cross_entropy, SoftmaxCrossEntropy{.logits = k->x.view(),
                                                               .labels = k->labels.view(),
                                                               .labels2 = {},
                                                               .lambda = {},
                                                               .class_weights = {},
                                                               .loss = k->loss.view(),
                                                               .per_image = {},
                                                               .dlogits = k->dlogits.view()}),
          k, bytes);
}

}  // namespace

void register_loss() {
  add({32, 7});
  add({256, 1000});
}

}  // namespace cairn::bench
