// Max and global average pooling, both ways.
#include "kernels/pool.h"

#include "bench/kernels/bench.h"

namespace cairn::bench {
namespace {

using namespace kernels;

struct Tensors {
  Tensors(DType t, const Shape& in, const Shape& out)
      : x(t, in, 1),
        dy(t, out, 2),
        y(t, out),
        other(t, out),
        dx(t, in),
        other_dx(t, in),
        index(DType::u8, out) {}
  Buffer x, dy, y, other, dx, other_dx, index;
};

dnnl::memory::desc nhwc(const Shape& s, DType t) {
  return {{s[0], s[3], s[1], s[2]}, onednn::type_of(t), dnnl::memory::format_tag::nhwc};
}

struct PoolPrimitives {
  dnnl::pooling_forward::primitive_desc forward;
  dnnl::pooling_backward::primitive_desc backward;
};
PoolPrimitives describe_pool(dnnl::algorithm how, const dnnl::memory::desc& in, const dnnl::memory::desc& out,
                             const Pool2dGeometry& g) {
  const dnnl::memory::dims stride{g.stride_h, g.stride_w}, kernel{g.kernel_h, g.kernel_w},
      pad{g.padding_h, g.padding_w};
  const auto training = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::memory::dims dilation{0, 0};
  auto forward =
      onednn::describe<dnnl::pooling_forward>({}, training, how, in, out, stride, kernel, dilation, pad, pad);
  auto backward = onednn::describe_hinted<dnnl::pooling_backward>({}, forward, how, in, out, stride, kernel,
                                                                  dilation, pad, pad);
#else
  auto forward =
      onednn::describe<dnnl::pooling_forward>({}, training, how, in, out, stride, kernel, pad, pad);
  auto backward =
      onednn::describe_hinted<dnnl::pooling_backward>({}, forward, how, in, out, stride, kernel, pad, pad);
#endif
  return {forward, backward};
}

void add_max(const Shape& in, const Pool2dGeometry& g, DType t) {
  const Shape out{in[0], (in[1] + 2 * g.padding_h - g.kernel_h) / g.stride_h + 1,
                  (in[2] + 2 * g.padding_w - g.kernel_w) / g.stride_w + 1, in[3]};
  const auto k = std::make_shared<Tensors>(t, in, out);
  const PoolPrimitives peer = describe_pool(dnnl::algorithm::pooling_max, nhwc(in, t), nhwc(out, t), g);
  const dnnl::memory workspace(peer.forward.workspace_desc(), onednn::engine());
  const Job ours =
      cairn_job(max_pool2d_forward, MaxPool2dForward{k->x.view(), k->y.view(), k->index.view(), g});
  const Job theirs = onednn_job(dnnl::pooling_forward(peer.forward),
                                {{DNNL_ARG_SRC, onednn::wrap(nhwc(in, t), k->x.data())},
                                 {DNNL_ARG_DST, onednn::wrap(nhwc(out, t), k->other.data())},
                                 {DNNL_ARG_WORKSPACE, workspace}});
  require_equal("max_pool2d_forward", ours, k->y, theirs, k->other, 0);
  const double in_bytes = static_cast<double>(k->x.bytes()), out_bytes = static_cast<double>(k->y.bytes());
  const double index_bytes = static_cast<double>(k->index.bytes());
  const std::string what = std::to_string(g.kernel_h) + "x" + std::to_string(g.kernel_w);
  const std::string name = row_name("max_pool_" + what + "_forward", in, t);
  add_row(name + "cairn", ours, k, in_bytes + out_bytes + index_bytes);
  add_row(name + "oneDNN", theirs, k, in_bytes + out_bytes + index_bytes);
  const Job back =
      cairn_job(max_pool2d_backward, MaxPool2dBackward{k->dy.view(), k->index.view(), k->dx.view(), g});
  const Job their_back = onednn_job(dnnl::pooling_backward(peer.backward),
                                    {{DNNL_ARG_DIFF_DST, onednn::wrap(nhwc(out, t), k->dy.data())},
                                     {DNNL_ARG_DIFF_SRC, onednn::wrap(nhwc(in, t), k->other_dx.data())},
                                     {DNNL_ARG_WORKSPACE, workspace}});
  require_equal("max_pool2d_backward", back, k->dx, their_back, k->other_dx, tolerance_of(t));
  const std::string back_name = row_name("max_pool_" + what + "_backward", in, t);
  add_row(back_name + "cairn", back, k, in_bytes + out_bytes + index_bytes);
  add_row(back_name + "oneDNN", their_back, k, in_bytes + out_bytes + index_bytes);
}

void add_global_average(const Shape& in, DType t) {
  const Shape out{in[0], in[3]};
  const auto k = std::make_shared<Tensors>(t, in, out);
  const Shape out4{in[0], 1, 1, in[3]};
  const Pool2dGeometry whole{static_cast<int>(in[1]), static_cast<int>(in[2]), 1, 1, 0, 0};
  const PoolPrimitives peer =
      describe_pool(dnnl::algorithm::pooling_avg_exclude_padding, nhwc(in, t), nhwc(out4, t), whole);
  const Job ours = cairn_job(global_avg_pool_forward, GlobalAvgPoolForward{k->x.view(), k->y.view()});
  const Job theirs = onednn_job(dnnl::pooling_forward(peer.forward),
                                {{DNNL_ARG_SRC, onednn::wrap(nhwc(in, t), k->x.data())},
                                 {DNNL_ARG_DST, onednn::wrap(nhwc(out4, t), k->other.data())}});
  require_equal("global_avg_pool_forward", ours, k->y, theirs, k->other, tolerance_of(t));
  const double bytes = static_cast<double>(k->x.bytes() + k->y.bytes());
  add_row(row_name("global_avg_pool_forward", in, t) + "cairn", ours, k, bytes);
  add_row(row_name("global_avg_pool_forward", in, t) + "oneDNN", theirs, k, bytes);
  const Job back = cairn_job(global_avg_pool_backward, GlobalAvgPoolBackward{k->dy.view(), k->dx.view()});
  const Job their_back = onednn_job(dnnl::pooling_backward(peer.backward),
                                    {{DNNL_ARG_DIFF_DST, onednn::wrap(nhwc(out4, t), k->dy.data())},
                                     {DNNL_ARG_DIFF_SRC, onednn::wrap(nhwc(in, t), k->other_dx.data())}});
  require_equal("global_avg_pool_backward", back, k->dx, their_back, k->other_dx, tolerance_of(t));
  add_row(row_name("global_avg_pool_backward", in, t) + "cairn", back, k, bytes);
  add_row(row_name("global_avg_pool_backward", in, t) + "oneDNN", their_back, k, bytes);
}

}  // namespace

void register_pool() {
  for (const DType t : {DType::f32, DType::bf16}) {
    add_max({8, 112, 112, 64},
            {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .padding_h = 1, .padding_w = 1},
            t);                         // ResNet's stem
    add_max({8, 224, 224, 32}, {}, t);  // ModelCNN's first block
    add_global_average({32, 7, 7, 512}, t);
  }
}

}  // namespace cairn::bench
