#include "kernels/gemm.h"

#include <cublasLt.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <type_traits>

#include "kernels/backend.h"
#include "kernels/cuda/column_sums.h"
#include "kernels/cuda/status.h"
#include "kernels/lru_cache.h"
#include "kernels/pointwise.h"
#include "kernels/scratch.h"

// The provider of matrix products through cuBLASLt, y = act(op(a) op(b) + bias) in row-major terms.
//
// cuBLASLt counts column by column. A row-major [R,C] matrix is, in the same memory, a column-major C x R one
// with leading dimension C, its transpose. So what is asked of cuBLASLt is y^T = op(b)^T op(a)^T:
//   its A is b (m = columns of y), its B is a (n = rows of y), both with the transpose flag of ours, and a
//   bias along y's last axis is its bias along the rows.
// 16-bit x and w multiply on tensor cores into fp32 sums; dw comes out in fp32 directly.

namespace cairn::kernels::cublaslt {
namespace {

struct CublasError : std::runtime_error {
  CublasError(cublasStatus_t status, const char* call)
      : std::runtime_error(std::string("cuBLASLt: ") + call + ": " + cublasLtGetStatusString(status)) {}
};
void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) throw CublasError(status, call);
}

template <class T, cublasStatus_t (*kDestroy)(T)>
struct Destroy {
  using pointer = T;
  void operator()(T t) const { kDestroy(t); }
};
template <class T, cublasStatus_t (*kDestroy)(T)>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, Destroy<T, kDestroy>>;
using MatmulDesc = Owned<cublasLtMatmulDesc_t, &cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, &cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, &cublasLtMatmulPreferenceDestroy>;

cublasLtHandle_t handle_of(int device) {
  static std::mutex mutex;
  static auto& handles = *new std::map<int, cublasLtHandle_t>;  // kept: queued work may outlive any owner
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles[device];
  if (!handle) {
    if (const Status s = cuda_status(cudaSetDevice(device), "choosing the device"); !s.ok())
      throw std::runtime_error(s.message());
    check(cublasLtCreate(&handle), "creating a handle");
  }
  return handle;
}

cudaDataType_t type_of(DType t) {
  return t == DType::bf16 ? CUDA_R_16BF : t == DType::f16 ? CUDA_R_16F : CUDA_R_32F;
}

/// A product in row-major terms: y [batch,rows,columns] = act(op(a) op(b) + bias).
struct Product {
  ConstView a, b, bias;
  View y;
  bool transpose_a = false, transpose_b = false;
  Activation activation = Activation::none;
  Write write = Write::assign;
};

/// All that the choice of an algorithm depends on, in cuBLASLt's terms. A plain struct without padding,
/// compared by its bytes.
struct GemmKey {
  std::int64_t m = 0, n = 0, k = 0, batch = 1;
  std::int64_t lda = 0, ldb = 0, ldd = 0;
  std::int64_t stride_a = 0, stride_b = 0, stride_d = 0;  // elements from one matrix of the batch to the next
  std::int32_t transpose_a = 0, transpose_b = 0;
  std::int32_t type = 0, type_d = 0;  // DType of a and b, of d
  std::int32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  std::int32_t tf32 = 0;
  std::int32_t add = 0;
  std::int32_t device = 0;
  std::int32_t alignment_a = 0, alignment_b = 0, alignment_d = 0, alignment_bias = 0;  // bytes, up to 256

  bool operator<(const GemmKey& o) const { return std::memcmp(this, &o, sizeof *this) < 0; }
};
static_assert(std::has_unique_object_representations_v<GemmKey>, "compared by bytes: no padding allowed");

std::string to_string(const GemmKey& g) {
  return std::to_string(g.batch) + " x (" + std::to_string(g.n) + "x" + std::to_string(g.k) + " by " +
         std::to_string(g.k) + "x" + std::to_string(g.m) + "), " + name_of(static_cast<DType>(g.type)) +
         " to " + name_of(static_cast<DType>(g.type_d));
}

std::int32_t alignment_of(const void* p) {
  const std::uintptr_t bits = reinterpret_cast<std::uintptr_t>(p) | 256;
  return static_cast<std::int32_t>(bits & (~bits + 1));
}

GemmKey key_of(const Queue& queue, const Product& p) {
  const auto axis = [](const Shape& s, int from_end) { return s[s.rank - from_end]; };
  const auto matrices = [](const Shape& s) { return s.rank == 3 ? s[0] : 1; };
  const auto step = [&](const Shape& s) { return matrices(s) == 1 ? 0 : axis(s, 2) * axis(s, 1); };
  GemmKey g;
  g.m = axis(p.y.shape, 1);
  g.n = axis(p.y.shape, 2);
  g.k = axis(p.b.shape, p.transpose_b ? 1 : 2);
  g.batch = matrices(p.y.shape);
  g.lda = axis(p.b.shape, 1);
  g.ldb = axis(p.a.shape, 1);
  g.ldd = g.m;
  g.stride_a = step(p.b.shape);
  g.stride_b = step(p.a.shape);
  g.stride_d = g.m * g.n;
  g.transpose_a = p.transpose_b;
  g.transpose_b = p.transpose_a;
  g.type = static_cast<std::int32_t>(p.a.dtype);
  g.type_d = static_cast<std::int32_t>(p.y.dtype);
  const bool relu = p.activation == Activation::relu;
  g.epilogue = p.bias ? (relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS)
                      : (relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT);
  g.tf32 = queue.allow_tf32 && p.a.dtype == DType::f32;
  g.add = p.write == Write::add;
  g.device = queue.device.index;
  g.alignment_a = alignment_of(p.b.data);
  g.alignment_b = alignment_of(p.a.data);
  g.alignment_d = alignment_of(p.y.data);
  g.alignment_bias = p.bias ? alignment_of(p.bias.data) : 0;
  return g;
}

struct Descriptors {
  MatmulDesc matmul;
  Layout a, b, d;
};

template <class T>
void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name, const T& value) {
  check(cublasLtMatmulDescSetAttribute(desc, name, &value, sizeof value), "describing a product");
}
template <class T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name, const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value), "stating a preference");
}

Layout make_layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t leading,
                   std::int64_t batch, std::int64_t step) {
  cublasLtMatrixLayout_t raw = nullptr;
  check(cublasLtMatrixLayoutCreate(&raw, type, static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(columns), leading),
        "describing a matrix");
  Layout layout(raw);
  const auto count = static_cast<std::int32_t>(batch);
  const cublasLtOrder_t order = CUBLASLT_ORDER_COL;
  const auto set_layout = [&](cublasLtMatrixLayoutAttribute_t name, const auto& value) {
    check(cublasLtMatrixLayoutSetAttribute(raw, name, &value, sizeof value), "describing a matrix");
  };
  set_layout(CUBLASLT_MATRIX_LAYOUT_ORDER, order);
  set_layout(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, count);
  set_layout(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
  return layout;
}

Descriptors describe(const GemmKey& g, const void* bias) {
  const cudaDataType_t type = type_of(static_cast<DType>(g.type)),
                       type_d = type_of(static_cast<DType>(g.type_d));
  cublasLtMatmulDesc_t raw = nullptr;
  check(
      cublasLtMatmulDescCreate(&raw, g.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
      "describing a product");
  Descriptors d{MatmulDesc(raw), nullptr, nullptr, nullptr};
  set(raw, CUBLASLT_MATMUL_DESC_TRANSA, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(raw, CUBLASLT_MATMUL_DESC_TRANSB, g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(raw, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<cublasLtEpilogue_t>(g.epilogue));
  if (g.alignment_bias > 0) {
    set(raw, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_d);
    set(raw, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  d.a = make_layout(type, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, g.lda, g.batch, g.stride_a);
  d.b = make_layout(type, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, g.ldb, g.batch, g.stride_b);
  d.d = make_layout(type_d, g.m, g.n, g.ldd, g.batch, g.stride_d);
  return d;
}

struct Algorithm {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
};

/// The first that cuBLASLt's heuristic proposes among the deterministic ones: parts of a sum along k are kept
/// apart in the workspace and added in order, never in place.
Algorithm choose(const GemmKey& g, const void* bias) {
  constexpr std::size_t kWorkspaceLimit = 32 << 20;  // what cuBLAS itself takes on sm_90
  const Descriptors d = describe(g, bias);
  cublasLtMatmulPreference_t raw = nullptr;
  check(cublasLtMatmulPreferenceCreate(&raw), "making a preference");
  const Preference preference(raw);
  set(raw, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceLimit);
  set(raw, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(g.alignment_a));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(g.alignment_b));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(g.alignment_d));
  set(raw, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(g.alignment_d));
  cublasLtMatmulHeuristicResult_t result{};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_of(g.device), d.matmul.get(), d.a.get(), d.b.get(), d.d.get(),
                                     d.d.get(), raw, 1, &result, &count);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0 || result.state != CUBLAS_STATUS_SUCCESS) {
    // Kept in memory, so this is said once a product.
    std::fprintf(stderr,
                 "warning: a plain matrix product, many times slower, is used: cuBLASLt has none for %s\n",
                 to_string(g).c_str());
    return {};
  }
  return {true, result.algo, result.workspaceSize};
}

std::shared_ptr<const Algorithm> algorithm_of(const GemmKey& g, const void* bias) {
  static auto& cache = *new LruCache<GemmKey, Algorithm>(512);  // as many as the CPU keeps of its primitives
  return cache.get(g, [&] { return choose(g, bias); });
}

void execute(const Queue& queue, const Product& p, const GemmKey& g, const Algorithm& algorithm,
             void* workspace) {
  const Descriptors d = describe(g, p.bias.data);
  const float alpha = 1.0f, beta = g.add ? 1.0f : 0.0f;
  check(cublasLtMatmul(handle_of(g.device), d.matmul.get(), &alpha, p.b.data, d.a.get(), p.a.data, d.b.get(),
                       &beta, p.y.data, d.d.get(), p.y.data, d.d.get(), &algorithm.algorithm,
                       algorithm.workspace > 0 ? workspace : nullptr, algorithm.workspace,
                       static_cast<cudaStream_t>(queue.stream)),
        "multiplying");
}

// ---- from gemm.h's arguments: products on copies in scratch where the dtype differs ----

/// w or bias in x's dtype; `copied` if that takes a copy.
struct Operand {
  ConstView original;
  ConstView used;
  bool copied = false;
};
Operand operand(const ConstView& v, DType t, Scratch& scratch) {
  if (!v || v.dtype == t) return {v, v, false};
  return {v, scratch.take_view(t, v.shape), true};
}
Status prepare(const Queue& queue, const Operand& o) {
  if (!o.copied) return {};
  return cast(queue, {o.original, {const_cast<void*>(o.used.data), o.used.dtype, o.used.shape}});
}

struct Prepared {
  Product product;
  Operand w, bias;
};
Prepared prepared(const LinearForward& a, Scratch& scratch) {
  const Operand w = operand(a.w, a.dtype(), scratch), bias = operand(a.bias, a.dtype(), scratch);
  return {
      {.a = a.x, .b = w.used, .bias = bias.used, .y = a.y, .transpose_b = true, .activation = a.activation},
      w,
      bias};
}
Prepared prepared(const LinearBackwardData& a, Scratch& scratch) {
  const Operand w = operand(a.w, a.dtype(), scratch);
  return {{.a = a.dy, .b = w.used, .bias = {}, .y = a.dx, .write = a.write}, w, {}};
}
Prepared prepared(const LinearBackwardWeight& a, Scratch&) {
  return {{.a = a.dy, .b = a.x, .bias = {}, .y = a.dw, .transpose_a = true, .write = a.write}, {}, {}};
}
Prepared prepared(const Matmul& a, Scratch&) {
  return {{.a = a.a,
           .b = a.b,
           .bias = {},
           .y = a.y,
           .transpose_a = a.transpose_a,
           .transpose_b = a.transpose_b,
           .write = a.write},
          {},
          {}};
}

ColumnSums bias_sums(const LinearBackwardWeight& a) {
  return {.x = a.dy, .y = a.dbias, .write = a.dbias_write};
}
template <class Args>
std::size_t reduction_bytes(const Queue& queue, const Args& a) {
  if constexpr (std::is_same_v<Args, LinearBackwardWeight>)
    return a.dbias ? column_sums.workspace(queue, bias_sums(a)) : 0;
  return 0;
}

/// The plain kernels, as they were before this provider took their places.
template <class Args>
typename KernelSlot<Args>::Entry plain[kDTypeCount];

template <class Args>
constexpr const char* kOp = "matmul";
template <>
constexpr const char* kOp<LinearForward> = "linear_forward";
template <>
constexpr const char* kOp<LinearBackwardData> = "linear_backward_data";
template <>
constexpr const char* kOp<LinearBackwardWeight> = "linear_backward_weight";

bool empty(const Product& p) { return p.a.numel() == 0 || p.b.numel() == 0 || p.y.numel() == 0; }

template <class Args>
std::size_t workspace_cuda(const Queue& queue, const Args& a) {
  try {
    Scratch scratch;
    const Prepared p = prepared(a, scratch);
    if (!empty(p.product)) {
      const auto algorithm = algorithm_of(key_of(queue, p.product), p.product.bias.data);
      if (algorithm->found) return scratch.used() + std::max(algorithm->workspace, reduction_bytes(queue, a));
    }
  } catch (const std::exception&) {
    return 0;  // run() meets it again, and reports it
  }
  const auto& entry = plain<Args>[static_cast<int>(a.dtype())];
  return entry.workspace ? entry.workspace(queue, a) : 0;
}

template <class Args>
Status run_cuda(const Queue& queue, const Args& a) {
  std::string what;
  try {
    Scratch scratch(a.scratch);
    const Prepared p = prepared(a, scratch);
    if (!empty(p.product)) {
      const GemmKey key = key_of(queue, p.product);
      what = to_string(key);
      const auto algorithm = algorithm_of(key, p.product.bias.data);
      if (algorithm->found) {
        if (Status s = prepare(queue, p.w); !s.ok()) return s;
        if (Status s = prepare(queue, p.bias); !s.ok()) return s;
        void* workspace = scratch.take(0);
        execute(queue, p.product, key, *algorithm, workspace);
        if constexpr (std::is_same_v<Args, LinearBackwardWeight>) {
          if (!a.dbias) return {};
          // cuBLASLt's workspace has served: the reduction is queued behind it.
          ColumnSums sums = bias_sums(a);
          sums.scratch = workspace;
          sums.scratch_bytes = reduction_bytes(queue, a);
          return column_sums(queue, sums);
        }
        return {};
      }
    }
  } catch (const std::exception& e) {
    return Status::error("[" + std::string(kOp<Args>) + "] " + e.what() + " (" + what + ")");
  }
  const auto& entry = plain<Args>[static_cast<int>(a.dtype())];
  if (!entry.run)
    return Status::error(
        "[" + std::string(kOp<Args>) + "] neither cuBLASLt nor a plain kernel serves this: " + what,
        Status::Code::no_kernel);
  return entry.run(queue, a);
}

template <class Args>
void take_over(KernelSlot<Args>& slot) {
  for (const DType t : {DType::f32, DType::bf16, DType::f16})
    plain<Args>[static_cast<int>(t)] = slot.fill(kCudaDevice, t, &run_cuda<Args>, &workspace_cuda<Args>);
}

}  // namespace
}  // namespace cairn::kernels::cublaslt

extern "C" int cairn_provider_start(char* text, std::size_t size) {
  using namespace cairn::kernels;
  const std::size_t version = cublasLtGetVersion();
  if (version / 10000 != CUBLAS_VER_MAJOR) {
    std::snprintf(text, size, "cuBLASLt %zu was found, this build needs version %d", version / 10000,
                  CUBLAS_VER_MAJOR);
    return 1;
  }
  cublaslt::take_over(linear_forward);
  cublaslt::take_over(linear_backward_data);
  cublaslt::take_over(linear_backward_weight);
  cublaslt::take_over(matmul);
  std::snprintf(text, size, "cuBLASLt %zu.%zu.%zu%s", version / 10000, version / 100 % 100, version % 100,
                kStandIn);
  return 0;
}
