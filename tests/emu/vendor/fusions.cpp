#include "tests/emu/vendor/fusions.h"

#include <array>
#include <optional>
#include <set>

namespace cairn::kernels::cudnn {
namespace {

using Dims = std::vector<std::int64_t>;

/// Operations and tensors of one graph; each descriptor lives as long as it.
class GraphBuilder {
 public:
  explicit GraphBuilder(cudnnDataType_t io) : io_(io) { parts_.reserve(64); }

  const Descriptor& tensor(const Dims& dims, const Dims& strides, cudnnDataType_t type, bool is_virtual) {
    Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, next_id_++)
        .set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
        .set(CUDNN_ATTR_TENSOR_DIMENSIONS, dims)
        .set(CUDNN_ATTR_TENSOR_STRIDES, strides)
        .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, std::int64_t{16});
    if (is_virtual) d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    d.finalize();
    return keep(std::move(d));
  }
  /// [N,H,W,C] in memory, (N,C,H,W) to cuDNN.
  const Descriptor& images(const std::int64_t (&d)[4], cudnnDataType_t type, bool is_virtual = false) {
    return tensor({d[0], d[3], d[1], d[2]}, {d[1] * d[2] * d[3], 1, d[2] * d[3], d[3]}, type, is_virtual);
  }
  const Descriptor& images(const std::int64_t (&d)[4], bool is_virtual = false) {
    return images(d, is_virtual ? CUDNN_DATA_FLOAT : io_, is_virtual);
  }
  const Descriptor& channels(std::int64_t c, cudnnDataType_t type = CUDNN_DATA_FLOAT) {
    return tensor({1, c, 1, 1}, {c, 1, c, c}, type, false);
  }
  const Descriptor& matrix(std::int64_t rows, std::int64_t columns, bool transposed = false,
                           bool is_virtual = false) {
    const Dims strides = transposed ? Dims{rows * columns, 1, rows} : Dims{rows * columns, columns, 1};
    return tensor({1, rows, columns}, strides, is_virtual ? CUDNN_DATA_FLOAT : io_, is_virtual);
  }

  void convolution(const ConvGraph& g, bool dgrad, const Descriptor& x, const Descriptor& w,
                   const Descriptor& y) {
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const std::array<std::int64_t, 2> stride{g.stride[0], g.stride[1]}, padding{g.padding[0], g.padding[1]},
        dilation{g.dilation[0], g.dilation[1]};
    Descriptor c(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    c.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode)
        .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2})
        .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, dilation)
        .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, stride)
        .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, padding)
        .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, padding)
        .finalize();
    const Descriptor& kept = keep(std::move(c));
    Descriptor op(dgrad ? CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
                        : CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    if (dgrad)
      op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, kept)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, x)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, w)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, y)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1.0)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 0.0);
    else
      op.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, kept)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1.0)
          .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0.0);
    add(std::move(op));
  }
  /// out = mode(x, b); b may be null. For RELU_BWD x is the saved activation and b the gradient.
  void pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* b, const Descriptor& out) {
    Descriptor config(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    config.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode)
        .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT)
        .finalize();
    const Descriptor& kept = keep(std::move(config));
    Descriptor op(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    op.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kept).set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (mode == CUDNN_POINTWISE_RELU_BWD) {
      op.set(CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, *b).set(CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, out);
    } else {
      if (b) op.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *b);
      op.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
    }
    add(std::move(op));
  }
  void statistics(const Descriptor& x, const Descriptor& sum, const Descriptor& squares) {
    const cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
    Descriptor op(CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR);
    op.set(CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode)
        .set(CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_OPERATION_GENSTATS_XDESC, x)
        .set(CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, sum)
        .set(CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, squares);
    add(std::move(op));
  }
  void product(const Descriptor& a, const Descriptor& b, const Descriptor& c) {
    Descriptor config(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    config.set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT).finalize();
    const Descriptor& kept = keep(std::move(config));
    Descriptor op(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    op.set(CUDNN_ATTR_OPERATION_MATMUL_DESC, kept)
        .set(CUDNN_ATTR_OPERATION_MATMUL_ADESC, a)
        .set(CUDNN_ATTR_OPERATION_MATMUL_BDESC, b)
        .set(CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    add(std::move(op));
  }
  Descriptor finish() {
    Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    graph
        .set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::ssize(operations_),
             operations_.data())
        .finalize();
    return graph;
  }

 private:
  const Descriptor& keep(Descriptor d) { return parts_.emplace_back(std::move(d)); }
  void add(Descriptor operation) {
    operation.finalize();
    operations_.push_back(keep(std::move(operation)).raw());
  }
  cudnnDataType_t io_;
  std::int64_t next_id_ = 1;
  std::vector<Descriptor> parts_;
  std::vector<cudnnBackendDescriptor_t> operations_;
};

Descriptor build(Fusion fusion, const ConvGraph& g, GraphBuilder& b, cudnnDataType_t io) {
  switch (fusion) {
    case Fusion::conv_statistics: {
      const Descriptor& y = b.images(g.y);
      b.convolution(g, false, b.images(g.x), b.images(g.w), y);
      b.statistics(y, b.channels(g.y[3]), b.channels(g.y[3]));
      break;
    }
    case Fusion::norm_conv: {
      const Descriptor &scaled = b.images(g.x, true), &shifted = b.images(g.x, true),
                       &activated = b.images(g.x, io, true);
      b.pointwise(CUDNN_POINTWISE_MUL, b.images(g.x), &b.channels(g.x[3]), scaled);
      b.pointwise(CUDNN_POINTWISE_ADD, scaled, &b.channels(g.x[3]), shifted);
      b.pointwise(CUDNN_POINTWISE_RELU_FWD, shifted, nullptr, activated);
      b.convolution(g, false, activated, b.images(g.w), b.images(g.y));
      break;
    }
    case Fusion::dgrad_relu: {
      const Descriptor& dx = b.images(g.x, true);
      b.convolution(g, true, dx, b.images(g.w), b.images(g.y));
      b.pointwise(CUDNN_POINTWISE_RELU_BWD, b.images(g.x), &dx, b.images(g.x));
      break;
    }
    case Fusion::matmul:
      b.product(b.matrix(g.x[0], g.x[3]), b.matrix(g.x[3], g.w[0], true), b.matrix(g.x[0], g.w[0]));
      break;
    case Fusion::matmul_bias_relu: {
      const std::int64_t n = g.x[0], k = g.w[0];
      const Descriptor &y = b.matrix(n, k, false, true), &biased = b.matrix(n, k, false, true);
      b.product(b.matrix(n, g.x[3]), b.matrix(g.x[3], k, true), y);
      b.pointwise(CUDNN_POINTWISE_ADD, y, &b.tensor({1, 1, k}, {k, k, 1}, io, false), biased);
      b.pointwise(CUDNN_POINTWISE_RELU_FWD, biased, nullptr, b.matrix(n, k));
      break;
    }
  }
  return b.finish();
}

}  // namespace

const char* name_of(Fusion fusion) {
  constexpr const char* kNames[] = {"conv + statistics", "norm + ReLU -> conv", "dgrad -> dReLU", "matmul",
                                    "matmul + bias + ReLU"};
  return kNames[static_cast<int>(fusion)];
}

Offer ask_for(Fusion fusion, const ConvGraph& shape, const DeviceDescription& device, bool compile) {
  const cudnnDataType_t io = shape.type() == DType::bf16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
  GraphBuilder builder(io);
  Offer offer;
  std::optional<Descriptor> graph;
  try {
    graph = build(fusion, shape, builder, io);
  } catch (const CudnnError& e) {
    offer.failure = e.what();
    return offer;
  }
  std::set<std::int64_t> engines;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (const Descriptor& config : propose(*graph, device, mode)) {
      const EngineNotes notes = examine(config);
      engines.insert(notes.engine);
      const bool is_first = offer.first < 0;
      if (is_first) {
        offer.first = notes.engine;
        offer.deterministic = notes.deterministic;
        offer.runtime_compiled = notes.runtime_compiled;
        offer.tensor_core = notes.tensor_core;
      }
      if (!compile || offer.workspace >= 0) continue;
      if (const std::optional<Plan> plan = finalize_plan(config, notes, device))
        offer.workspace = static_cast<std::int64_t>(plan->workspace);
      else if (is_first)
        offer.failure = "engine " + std::to_string(notes.engine) + " builds no plan";
    }
  offer.engines = std::ssize(engines);
  if (engines.empty()) offer.failure = "no engine is proposed";
  return offer;
}

}  // namespace cairn::kernels::cudnn
