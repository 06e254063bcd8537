// Batch norm with ReLU, training, both ways.
#include "kernels/batch_norm.h"

#include "bench/kernels/bench.h"

namespace cairn::bench {
namespace {

using namespace kernels;

struct Tensors {
  Tensors(DType t, const Shape& s)
      : x(t, s, 1),
        dy(t, s, 2),
        y(t, s),
        other(t, s),
        gamma(DType::f32, {s[3]}, 3),
        beta(DType::f32, {s[3]}, 4),
        mean(DType::f32, {s[3]}),
        inv_std(DType::f32, {s[3]}),
        variance(DType::f32, {s[3]}),
        dgamma(DType::f32, {s[3]}),
        dbeta(DType::f32, {s[3]}) {}
  Buffer x, dy, y, other, gamma, beta, mean, inv_std, variance, dgamma, dbeta;
};

dnnl::memory channels(Buffer& b) {
  return onednn::wrap(onednn::dense({b.view().shape[0]}, DType::f32), b.data());
}

void add(const Shape& shape, DType t) {
  const auto k = std::make_shared<Tensors>(t, shape);
  const double bytes = static_cast<double>(k->x.bytes());
  const Job ours = cairn_job(batch_norm_forward, BatchNormForward{.x = k->x.view(),
                                                                  .gamma = k->gamma.view(),
                                                                  .beta = k->beta.view(),
                                                                  .residual = {},
                                                                  .y = k->y.view(),
                                                                  .mean = k->mean.view(),
                                                                  .inv_std = k->inv_std.view(),
                                                                  .running_mean = {},
                                                                  .running_var = {},
                                                                  .activation = Activation::relu});
  const dnnl::memory::desc desc({shape[0], shape[3], shape[1], shape[2]}, onednn::type_of(t),
                                dnnl::memory::format_tag::nhwc);
  const auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift |
                     dnnl::normalization_flags::fuse_norm_relu;
#if DNNL_VERSION_MAJOR >= 3
  const auto pd = onednn::describe<dnnl::batch_normalization_forward>({}, dnnl::prop_kind::forward_training,
                                                                      desc, desc, 1e-5f, flags);
  const auto pd_back = onednn::describe_hinted<dnnl::batch_normalization_backward>(
      {}, pd, dnnl::prop_kind::backward, desc, desc, desc, 1e-5f, flags);
#else
  const auto pd = onednn::describe<dnnl::batch_normalization_forward>({}, dnnl::prop_kind::forward_training,
                                                                      desc, 1e-5f, flags);
  const auto pd_back = onednn::describe_hinted<dnnl::batch_normalization_backward>(
      {}, pd, dnnl::prop_kind::backward, desc, desc, 1e-5f, flags);
#endif
  const auto wrapped = [&desc](Buffer& b) { return onednn::wrap(desc, b.data()); };
  const dnnl::memory workspace(pd.workspace_desc(), onednn::engine());
  const Job theirs =
      onednn_job(dnnl::batch_normalization_forward(pd), {{DNNL_ARG_SRC, wrapped(k->x)},
                                                         {DNNL_ARG_DST, wrapped(k->other)},
                                                         {DNNL_ARG_SCALE, channels(k->gamma)},
                                                         {DNNL_ARG_SHIFT, channels(k->beta)},
                                                         {DNNL_ARG_MEAN, channels(k->dgamma)},
                                                         {DNNL_ARG_VARIANCE, channels(k->variance)},
                                                         {DNNL_ARG_WORKSPACE, workspace}});
  require_equal("batch_norm_forward", ours, k->y, theirs, k->other, tolerance_of(t));
  const std::string name = row_name("batch_norm_relu_forward", shape, t);
  // x twice, for the statistics and for the normalisation, and y once.
  add_row(name + "cairn", ours, k, 3 * bytes);
  add_row(name + "oneDNN", theirs, k, 3 * bytes);

  const auto b = std::make_shared<Tensors>(t, shape);
  BatchNormForward forward{.x = b->x.view(),
                           .gamma = b->gamma.view(),
                           .beta = b->beta.view(),
                           .residual = {},
                           .y = b->y.view(),
                           .mean = b->mean.view(),
                           .inv_std = b->inv_std.view(),
                           .running_mean = {},
                           .running_var = {},
                           .activation = Activation::relu};
  cairn_job(batch_norm_forward, forward)();
  const dnnl::memory their_workspace(pd.workspace_desc(), onednn::engine());
  const auto mean = std::make_shared<Buffer>(DType::f32, Shape{shape[3]});
  onednn_job(dnnl::batch_normalization_forward(pd), {{DNNL_ARG_SRC, wrapped(b->x)},
                                                     {DNNL_ARG_DST, wrapped(b->other)},
                                                     {DNNL_ARG_SCALE, channels(b->gamma)},
                                                     {DNNL_ARG_SHIFT, channels(b->beta)},
                                                     {DNNL_ARG_MEAN, channels(*mean)},
                                                     {DNNL_ARG_VARIANCE, channels(b->variance)},
                                                     {DNNL_ARG_WORKSPACE, their_workspace}})();
  const Job back = cairn_job(batch_norm_backward, BatchNormBackward{.x = b->x.view(),
                                                                    .y = {},
                                                                    .dy = b->dy.view(),
                                                                    .gamma = b->gamma.view(),
                                                                    .beta = b->beta.view(),
                                                                    .mean = b->mean.view(),
                                                                    .inv_std = b->inv_std.view(),
                                                                    .dx = b->y.view(),
                                                                    .dresidual = {},
                                                                    .dgamma = b->dgamma.view(),
                                                                    .dbeta = b->dbeta.view(),
                                                                    .activation = Activation::relu});
  const auto their_parameters = std::make_shared<Buffer>(DType::f32, Shape{2 * shape[3]});
  float* const their_dgamma = their_parameters->view().as<float>();
  const dnnl::memory::desc channel_desc = onednn::dense({shape[3]}, DType::f32);
  const Job run_back =
      onednn_job(dnnl::batch_normalization_backward(pd_back),
                 {{DNNL_ARG_SRC, wrapped(b->x)},
                  {DNNL_ARG_DIFF_DST, wrapped(b->dy)},
                  {DNNL_ARG_DIFF_SRC, wrapped(b->other)},
                  {DNNL_ARG_SCALE, channels(b->gamma)},
                  {DNNL_ARG_SHIFT, channels(b->beta)},  // oneDNN 2 counts it among the inputs

                  {DNNL_ARG_MEAN, channels(*mean)},
                  {DNNL_ARG_VARIANCE, channels(b->variance)},
                  {DNNL_ARG_DIFF_SCALE, onednn::wrap(channel_desc, their_dgamma)},
                  {DNNL_ARG_DIFF_SHIFT, onednn::wrap(channel_desc, their_dgamma + shape[3])},
                  {DNNL_ARG_WORKSPACE, their_workspace}});
  const Job their_back = [run_back, mean, their_parameters] { run_back(); };
  // Values spread over some units, rounded to 2^-24 (bf16: 2^-8, and oneDNN rounds before its mask) of them.
  const std::int64_t kinks = t == DType::bf16 ? shape.numel() / 100 : 1 + shape.numel() / 1'000'000;
  require_equal("batch_norm_backward", back, b->y, their_back, b->other, 4 * tolerance_of(t), kinks);
  const std::string back_name = row_name("batch_norm_relu_backward", shape, t);
  // x and dy twice, for the sums and for dx, and dx once.
  add_row(back_name + "cairn", back, b, 5 * bytes);
  add_row(back_name + "oneDNN", their_back, b, 5 * bytes);
}

}  // namespace

void register_batch_norm() {
  // The four stages of ResNet-18, and its stem at a quarter of the batch.
  for (const Shape& shape : {Shape{8, 112, 112, 64}, Shape{32, 56, 56, 64}, Shape{32, 28, 28, 128},
                             Shape{32, 14, 14, 256}, Shape{32, 7, 7, 512}})
    for (const DType t : {DType::f32, DType::bf16}) add(shape, t);
}

}  // namespace cairn::bench
