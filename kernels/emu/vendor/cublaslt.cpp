// The stand-in for the part of cuBLASLt that needs a GPU. Descriptors of products and matrices are the real
// library's; handles, the heuristic and cublasLtMatmul are our own. What to compute is read back from the
// descriptors: m, n, k, leading dimensions, order, transposes, types, batches, epilogue, bias.
#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "kernels/emu/emu.h"
#include "kernels/emu/ledger.h"
#include "kernels/emu/runtime.h"
#include "kernels/emu/vendor/reference.h"

struct cublasLtContext {};

namespace {
using namespace cairn::emu;

constexpr std::size_t kWorkspace = 64 * 1024;  // asked for by every product, so that handing it in is tested
constexpr const char* kWho = "cublasLtMatmul";

template <class T>
T attribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name, const char* what) {
  T value{};
  std::size_t written = 0;
  if (cublasLtMatmulDescGetAttribute(desc, name, &value, sizeof value, &written) != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cannot read ") + what);
  return value;
}
template <class T>
T attribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t name, const char* what) {
  T value{};
  std::size_t written = 0;
  if (cublasLtMatrixLayoutGetAttribute(layout, name, &value, sizeof value, &written) != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cannot read ") + what);
  return value;
}

Element element_of(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_32F:
      return Element::f32;
    case CUDA_R_16BF:
      return Element::bf16;
    case CUDA_R_16F:
      return Element::f16;
    default:
      throw std::runtime_error("the emulated device computes no type " + std::to_string(type));
  }
}

struct Operand {
  Matrix matrix;
  std::int64_t step = 0;  // elements
  std::int32_t batch = 1;

  std::int64_t bytes() const {
    return batch * matrix.rows * matrix.columns * (matrix.type == Element::f32 ? 4 : 2);
  }
  Matrix at(std::int64_t i) const {
    Matrix m = matrix;
    const std::int64_t bytes = m.type == Element::f32 ? 4 : 2;
    m.data = static_cast<char*>(m.data) + i * step * bytes;
    return m;
  }
};

Operand read_back(const void* data, cublasLtMatrixLayout_t layout) {
  Operand o;
  o.matrix.data = const_cast<void*>(data);
  o.matrix.type = element_of(
      static_cast<cudaDataType_t>(attribute<std::uint32_t>(layout, CUBLASLT_MATRIX_LAYOUT_TYPE, "a type")));
  o.matrix.rows =
      static_cast<std::int64_t>(attribute<std::uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_ROWS, "rows"));
  o.matrix.columns =
      static_cast<std::int64_t>(attribute<std::uint64_t>(layout, CUBLASLT_MATRIX_LAYOUT_COLS, "columns"));
  o.matrix.leading = attribute<std::int64_t>(layout, CUBLASLT_MATRIX_LAYOUT_LD, "a leading dimension");
  const auto order = attribute<std::int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_ORDER, "an order");
  if (order != CUBLASLT_ORDER_COL && order != CUBLASLT_ORDER_ROW)
    throw std::runtime_error("the emulated device has plain orders only");
  o.matrix.row_major = order == CUBLASLT_ORDER_ROW;
  o.batch = attribute<std::int32_t>(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, "a batch");
  o.step = attribute<std::int64_t>(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, "a batch's step");
  const std::int64_t least = o.matrix.row_major ? o.matrix.columns : o.matrix.rows;
  if (o.matrix.leading < least)
    throw std::runtime_error("a leading dimension of " + std::to_string(o.matrix.leading) +
                             " for a column of " + std::to_string(least));
  return o;
}

struct Product {
  Operand a, b, c, d;
  bool transpose_a = false, transpose_b = false;
  float alpha = 1, beta = 0;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  Matrix bias;
  std::int64_t m = 0, n = 0, k = 0;

  void run() const;
  /// What a run reads, writes and computes, to the ledger; false if that is all there is to do.
  bool note() const;
  std::size_t result_bytes() const { return static_cast<std::size_t>(d.bytes()); }
};

bool Product::note() const {
  std::int64_t read = a.bytes() + b.bytes();
  if (beta != 0.0f) read += c.bytes();
  if (bias.data) read += bias.rows * (bias.type == Element::f32 ? 4 : 2);
  return note_library_call("product " + std::to_string(m) + 'x' + std::to_string(k) + " * " +
                               std::to_string(k) + 'x' + std::to_string(n),
                           read, d.bytes(),
                           2.0 * static_cast<double>(m * n) * static_cast<double>(k * d.batch));
}

void Product::run() const {
  const bool relu = epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  const std::vector<float> added = bias.data ? gather(bias, kWho) : std::vector<float>();
  for (std::int64_t i = 0; i < d.batch; ++i) {
    std::vector<float> out =
        multiply(m, n, k, transpose_a, gather(a.at(i), kWho), transpose_b, gather(b.at(i), kWho));
    const std::vector<float> old = beta != 0.0f ? gather(c.at(i), kWho) : std::vector<float>();
    for (std::size_t j = 0; j < out.size(); ++j) {
      float v = alpha * out[j];
      if (!old.empty()) v += beta * old[j];
      if (!added.empty()) v += added[j % static_cast<std::size_t>(m)];
      out[j] = relu && v < 0.0f ? 0.0f : v;
    }
    scatter(d.at(i), out, kWho);
  }
}

Product read_back(cublasLtMatmulDesc_t desc, const float* alpha, const void* a,
                  cublasLtMatrixLayout_t layout_a, const void* b, cublasLtMatrixLayout_t layout_b,
                  const float* beta, const void* c, cublasLtMatrixLayout_t layout_c, void* d,
                  cublasLtMatrixLayout_t layout_d) {
  Product p;
  const auto compute = attribute<std::int32_t>(desc, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, "a compute type");
  if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32)
    throw std::runtime_error("the emulated device sums in fp32 only");
  p.a = read_back(a, layout_a);
  p.b = read_back(b, layout_b);
  p.c = read_back(c, layout_c);
  p.d = read_back(d, layout_d);
  p.transpose_a = attribute<std::int32_t>(desc, CUBLASLT_MATMUL_DESC_TRANSA, "a transpose") == CUBLAS_OP_T;
  p.transpose_b = attribute<std::int32_t>(desc, CUBLASLT_MATMUL_DESC_TRANSB, "a transpose") == CUBLAS_OP_T;
  p.alpha = *alpha;
  p.beta = *beta;
  p.m = p.d.matrix.rows;
  p.n = p.d.matrix.columns;
  p.k = p.transpose_a ? p.a.matrix.rows : p.a.matrix.columns;
  const std::int64_t m = p.transpose_a ? p.a.matrix.columns : p.a.matrix.rows;
  const std::int64_t n = p.transpose_b ? p.b.matrix.rows : p.b.matrix.columns;
  const std::int64_t k = p.transpose_b ? p.b.matrix.columns : p.b.matrix.rows;
  if (m != p.m || n != p.n || k != p.k) throw std::runtime_error("the matrices do not fit together");
  if (p.a.batch != p.d.batch || p.b.batch != p.d.batch)
    throw std::runtime_error("the batches do not fit together");
  p.epilogue = static_cast<cublasLtEpilogue_t>(
      attribute<std::uint32_t>(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, "an epilogue"));
  const bool biased = p.epilogue == CUBLASLT_EPILOGUE_BIAS || p.epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
  if (!biased && p.epilogue != CUBLASLT_EPILOGUE_DEFAULT && p.epilogue != CUBLASLT_EPILOGUE_RELU)
    throw std::runtime_error("the emulated device does not know this epilogue");
  if (biased) {
    const auto type = attribute<std::int32_t>(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, "the bias's type");
    p.bias = {attribute<void*>(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, "the bias"),
              type < 0 ? p.d.matrix.type : element_of(static_cast<cudaDataType_t>(type)),
              p.m,
              1,
              p.m,
              false};
  }
  return p;
}

}  // namespace

extern "C" {

cublasStatus_t CUBLASWINAPI cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t CUBLASWINAPI cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                                           cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                           cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                                           cublasLtMatmulPreference_t, int,
                                                           cublasLtMatmulHeuristicResult_t results[],
                                                           int* count) {
  results[0] = {};
  results[0].workspaceSize = kWorkspace;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                                           const void* a, cublasLtMatrixLayout_t layout_a, const void* b,
                                           cublasLtMatrixLayout_t layout_b, const void* beta, const void* c,
                                           cublasLtMatrixLayout_t layout_c, void* d,
                                           cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t*,
                                           void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  try {
    if (workspace_bytes < kWorkspace || !device_range_valid(workspace, workspace_bytes))
      throw std::runtime_error("the workspace is smaller than the algorithm asked for");
    const auto product = std::make_shared<const Product>(
        read_back(desc, static_cast<const float*>(alpha), a, layout_a, b, layout_b,
                  static_cast<const float*>(beta), c, layout_c, d, layout_d));
    const cudaError_t queued = enqueue_library_call(stream, kWho, [product, workspace] {
      if (!product->note()) return device_fill(product->d.matrix.data, 0, product->result_bytes());
      device_fill(workspace, 0xFF, kWorkspace);
      product->run();
    });
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "emulated device: %s: %s\n", kWho, e.what());
    return CUBLAS_STATUS_INVALID_VALUE;
  }
}

}  // extern "C"
