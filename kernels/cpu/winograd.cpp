#include "kernels/cpu/winograd.h"

#if !defined(CAIRN_KERNELS_F64)  // not in fp64

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>

// The matrix kernel keeps arrays of vectors, which targets of unknown vector length do not have.
#if !defined(__x86_64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/winograd.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/winograd_axis.h"
#include "kernels/cpu/winograd_product.h"
#include "kernels/without.h"

// y = A^T [ (G g G^T) . (B^T d B) ] A for each 4x4 tile of y, d the 6x6 tile of x under it, summed over the
// channels: 36 matrix products, one for each element e of a tile,
//   M[e] [tiles, K] = V[e] [tiles, C] U[e] [C, K].
// Forward and dgrad (filter turned by 180 degrees, C and K swapped) are the same pass; each thread takes
// blocks of tiles through all three steps while they are in its caches. wgrad is the adjoint:
//   dg = G^T ( sum over tiles of V[e]^T (A dy A^T)[e] ) G.
// Everything between the tensors is fp32; bf16 is how x, y, dy and dx are kept, and to what w is rounded.

#ifndef CAIRN_KERNELS_CPU_WINOGRAD_SHARED
#define CAIRN_KERNELS_CPU_WINOGRAD_SHARED
namespace cairn::kernels::winograd {
namespace {

constexpr std::int64_t kTile = 4, kIn = 6, kElements = 36;
constexpr std::int64_t kPanel = 64;  // columns of U that stand together: 4 vectors of 512 bits
constexpr std::int64_t kPad = 16;  // floats between elements' matrices, against powers of two in the strides

/// The tiles of an image batch: [n][th][tw] in one row.
struct Tiles {
  std::int64_t height, width, count;
  explicit Tiles(const Shape& y)
      : height((y[1] + kTile - 1) / kTile), width((y[2] + kTile - 1) / kTile), count(y[0] * height * width) {}
};

/// One pass from x [N,H,W,C] to y [N,P,Q,K] with padding; what follows the convolution is optional.
template <class T>
struct Pass {
  const T* x;
  Shape x_shape;
  T* y;
  Shape y_shape;
  std::int64_t padding_h, padding_w;
  const float* bias = nullptr;
  const T* residual = nullptr;
  bool relu = false;
  bool add = false;
};

/// Floats of one element's matrix of `rows` tiles and `columns` channels.
std::int64_t matrix_size(std::int64_t rows, std::int64_t columns) { return rows * columns + kPad; }

/// Tiles that a thread takes through the steps at once: V and M about 1 MiB, a core's L2, where that leaves
/// enough rows to use each element of U often; no more than share the work among the threads.
std::int64_t block_tiles(std::int64_t tiles, std::int64_t c, std::int64_t k) {
  constexpr std::int64_t kFloats = (1 << 20) / 4;
  const std::int64_t fits = std::max<std::int64_t>(kFloats / (kElements * (c + k)), 48);
  const std::int64_t share = (tiles + num_threads() - 1) / num_threads();
  return std::max<std::int64_t>(std::min(fits, share), 1);
}
std::int64_t block_floats(std::int64_t tiles, std::int64_t c, std::int64_t k) {
  return kElements * (matrix_size(tiles, c) + matrix_size(tiles, k));
}
int block_parts(std::int64_t tiles, std::int64_t block) {
  return parallel_parts((tiles + block - 1) / block, 1);
}

}  // namespace
}  // namespace cairn::kernels::winograd
#endif

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {
using namespace winograd;

/// Vectors between the two axes.
constexpr std::int64_t kLane = HWY_MAX_BYTES / sizeof(float);
struct Square {
  HWY_ALIGN float v[kElements * kLane];
  V get(std::int64_t i) const { return hn::Load(D(), v + i * kLane); }
  void put(std::int64_t i, V value) { hn::Store(value, D(), v + i * kLane); }
};

// ---- tiles in and out ----

/// Where the rows * columns pixels from (top, left) of image n lie; null outside the image.
template <class T>
void locate(T* image, const Shape& s, std::int64_t n, std::int64_t top, std::int64_t left, std::int64_t size,
            T** pixels) {
  for (std::int64_t i = 0; i < size; ++i)
    for (std::int64_t j = 0; j < size; ++j) {
      const std::int64_t h = top + i, w = left + j;
      const bool inside = h >= 0 && w >= 0 && h < s[1] && w < s[2];
      pixels[i * size + j] = inside ? image + ((n * s[1] + h) * s[2] + w) * s[3] : nullptr;
    }
}
struct Place {
  std::int64_t n, top, left;  // of the tile in y
};
Place place_of(const Tiles& tiles, std::int64_t tile) {
  return {tile / (tiles.height * tiles.width), tile / tiles.width % tiles.height * kTile,
          tile % tiles.width * kTile};
}
template <class T>
HWY_INLINE V pixel(const T* p, std::int64_t c) {
  return p ? load(D(), p + c) : hn::Zero(D());
}
/// v as T holds it.
template <class T>
HWY_INLINE V rounded(V v) {
  if constexpr (std::is_same_v<T, float>) return v;
  HWY_ALIGN T held[kLane];
  store(D(), v, held);
  return load(D(), held);
}

/// V[e][row] = B^T d B for the tiles from `first`; V's elements are `stride` floats apart.
template <class T>
HWY_NOINLINE void transform_input(const Pass<T>& p, const Tiles& tiles, std::int64_t first,
                                  std::int64_t count, float* v, std::int64_t stride) {
  const std::int64_t channels = p.x_shape[3];
  for (std::int64_t row = 0; row < count; ++row) {
    const Place at = place_of(tiles, first + row);
    const T* in[kElements];
    locate(p.x, p.x_shape, at.n, at.top - p.padding_h, at.left - p.padding_w, kIn, in);
    for (std::int64_t c = 0; c < channels; c += lanes<float>()) {
      Square square;
      for (std::int64_t j = 0; j < kIn; ++j)
        input_axis([&](std::int64_t i) HWY_ATTR { return pixel(in[i * kIn + j], c); },
                   [&](std::int64_t i, V value) HWY_ATTR { square.put(i * kIn + j, value); });
      float* out = v + row * channels + c;
      for (std::int64_t i = 0; i < kIn; ++i)
        input_axis([&](std::int64_t j) HWY_ATTR { return square.get(i * kIn + j); },
                   [&](std::int64_t j, V value)
                       HWY_ATTR { hn::StoreU(value, D(), out + (i * kIn + j) * stride); });
    }
  }
}

/// y = act(A^T m A + bias + residual), or y += it.
template <class T>
HWY_NOINLINE void transform_output(const Pass<T>& p, const Tiles& tiles, std::int64_t first,
                                   std::int64_t count, const float* m, std::int64_t stride) {
  const D d;
  const std::int64_t channels = p.y_shape[3];
  for (std::int64_t row = 0; row < count; ++row) {
    const Place at = place_of(tiles, first + row);
    T* out[kTile * kTile];
    locate(p.y, p.y_shape, at.n, at.top, at.left, kTile, out);
    for (std::int64_t c = 0; c < channels; c += lanes<float>()) {
      Square square;
      const float* in = m + row * channels + c;
      for (std::int64_t j = 0; j < kIn; ++j)
        output_axis([&](std::int64_t i) HWY_ATTR { return hn::LoadU(d, in + (i * kIn + j) * stride); },
                    [&](std::int64_t i, V value) HWY_ATTR { square.put(i * kIn + j, value); });
      const V bias = p.bias ? hn::LoadU(d, p.bias + c) : hn::Zero(d);
      for (std::int64_t i = 0; i < kTile; ++i)
        output_axis([&](std::int64_t j) HWY_ATTR { return square.get(i * kIn + j); },
                    [&](std::int64_t j, V value) HWY_ATTR {
                      T* y = out[i * kTile + j];
                      if (!y) return;
                      value = hn::Add(value, bias);
                      if (p.residual) value = hn::Add(value, load(d, p.residual + (y - p.y) + c));
                      if (p.relu) value = hn::IfThenZeroElse(hn::Lt(value, hn::Zero(d)), value);
                      if (p.add) value = hn::Add(value, load(d, y + c));
                      store(d, value, y + c);
                    });
    }
  }
}

/// D[e][row] = A dy A^T
template <class T>
HWY_NOINLINE void transform_gradient(const T* dy, const Shape& shape, const Tiles& tiles, std::int64_t first,
                                     std::int64_t count, float* out, std::int64_t stride) {
  const std::int64_t channels = shape[3];
  for (std::int64_t row = 0; row < count; ++row) {
    const Place at = place_of(tiles, first + row);
    const T* in[kTile * kTile];
    locate(dy, shape, at.n, at.top, at.left, kTile, in);
    for (std::int64_t c = 0; c < channels; c += lanes<float>()) {
      Square square;
      for (std::int64_t j = 0; j < kTile; ++j)
        output_axis_adjoint([&](std::int64_t i) HWY_ATTR { return pixel(in[i * kTile + j], c); },
                            [&](std::int64_t i, V value) HWY_ATTR { square.put(i * kIn + j, value); });
      float* to = out + row * channels + c;
      for (std::int64_t i = 0; i < kIn; ++i)
        output_axis_adjoint([&](std::int64_t j) HWY_ATTR { return square.get(i * kIn + j); },
                            [&](std::int64_t j, V value)
                                HWY_ATTR { hn::StoreU(value, D(), to + (i * kIn + j) * stride); });
    }
  }
}

// ---- filters ----

/// G g G^T of one vector of filters, handed to put(e, vector).
template <class Get, class Put>
HWY_INLINE void transform_filter(Get&& get, Put&& put) {
  Square square;
  for (std::int64_t s = 0; s < 3; ++s)
    filter_axis([&](std::int64_t r) HWY_ATTR { return get(r * 3 + s); },
                [&](std::int64_t i, V value) HWY_ATTR { square.put(i * 3 + s, value); });
  for (std::int64_t i = 0; i < kIn; ++i)
    filter_axis([&](std::int64_t s) HWY_ATTR { return square.get(i * 3 + s); },
                [&](std::int64_t j, V value) HWY_ATTR { put(i * kIn + j, value); });
}

/// Where U[e] holds (depth, column): panels of kPanel columns, each [depth][columns of the panel].
HWY_INLINE float* panel_at(float* u, std::int64_t depth_total, std::int64_t columns, std::int64_t depth,
                           std::int64_t column) {
  const std::int64_t panel = column / kPanel * kPanel, width = std::min(kPanel, columns - panel);
  return u + panel * depth_total + depth * width + (column - panel);
}

/// U of the forward pass: depth c, column k; w [K,3,3,C], as T holds it.
template <class T>
HWY_NOINLINE void forward_filters(const float* w, std::int64_t c_total, std::int64_t k_total, float* u,
                                  std::int64_t stride) {
  const D d;
  const hn::RebindToSigned<D> di;
  const auto steps = hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<std::int32_t>(9 * c_total)));
  parallel_for(k_total / lanes<float>(), 1, [&](std::int64_t begin, std::int64_t end, int) HWY_ATTR {
    for (std::int64_t k = begin * lanes<float>(); k < end * lanes<float>(); k += lanes<float>())
      for (std::int64_t c = 0; c < c_total; ++c) {
        float* to = panel_at(u, c_total, k_total, c, k);
        transform_filter(
            [&](std::int64_t i)
                HWY_ATTR { return rounded<T>(hn::GatherIndex(d, w + (k * 9 + i) * c_total + c, steps)); },
            [&](std::int64_t e, V value) HWY_ATTR { hn::StoreU(value, d, to + e * stride); });
      }
  });
}

/// U of dgrad: depth k, column c, the filter turned.
template <class T>
HWY_NOINLINE void turned_filters(const float* w, std::int64_t c_total, std::int64_t k_total, float* u,
                                 std::int64_t stride) {
  const D d;
  parallel_for(k_total, 1, [&](std::int64_t begin, std::int64_t end, int) HWY_ATTR {
    for (std::int64_t k = begin; k < end; ++k)
      for (std::int64_t c = 0; c < c_total; c += lanes<float>()) {
        float* to = panel_at(u, k_total, c_total, k, c);
        transform_filter([&](std::int64_t i)
                             HWY_ATTR { return rounded<T>(hn::LoadU(d, w + (k * 9 + 8 - i) * c_total + c)); },
                         [&](std::int64_t e, V value) HWY_ATTR { hn::StoreU(value, d, to + e * stride); });
      }
  });
}

/// dw (+)= G^T du G; du[e] [K,C].
HWY_NOINLINE void filter_gradients(const float* du, std::int64_t stride, std::int64_t c_total,
                                   std::int64_t k_total, float* dw, bool add) {
  const D d;
  parallel_for(k_total, 1, [&](std::int64_t begin, std::int64_t end, int) HWY_ATTR {
    for (std::int64_t k = begin; k < end; ++k)
      for (std::int64_t c = 0; c < c_total; c += lanes<float>()) {
        Square square;
        const float* in = du + k * c_total + c;
        for (std::int64_t j = 0; j < kIn; ++j)
          filter_axis_adjoint([&](std::int64_t i)
                                  HWY_ATTR { return hn::LoadU(d, in + (i * kIn + j) * stride); },
                              [&](std::int64_t i, V value) HWY_ATTR { square.put(i * kIn + j, value); });
        float* out = dw + k * 9 * c_total + c;
        for (std::int64_t r = 0; r < 3; ++r)
          filter_axis_adjoint([&](std::int64_t j) HWY_ATTR { return square.get(r * kIn + j); },
                              [&](std::int64_t s, V value) HWY_ATTR {
                                float* p = out + (r * 3 + s) * c_total;
                                hn::StoreU(add ? hn::Add(value, hn::LoadU(d, p)) : value, d, p);
                              });
      }
  });
}

// ---- passes ----

/// x to y with the transformed filters u, elements u_stride floats apart; v_and_m: block_floats() a thread.
template <class T>
void convolve(const Pass<T>& p, const float* u, std::int64_t u_stride, float* v_and_m) {
  const Tiles tiles(p.y_shape);
  const std::int64_t c = p.x_shape[3], k = p.y_shape[3], block = block_tiles(tiles.count, c, k);
  parallel_for((tiles.count + block - 1) / block, 1, [&](std::int64_t begin, std::int64_t end, int part) {
    float* v = v_and_m + part * block_floats(block, c, k);
    const std::int64_t v_stride = matrix_size(block, c), m_stride = matrix_size(block, k);
    float* m = v + kElements * v_stride;
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = b * block, count = std::min(block, tiles.count - first);
      transform_input(p, tiles, first, count, v, v_stride);
      for (std::int64_t e = 0; e < kElements; ++e)
        for (std::int64_t column = 0; column < k; column += kPanel) {
          const std::int64_t width = std::min(kPanel, k - column);
          multiply<false>(
              {v + e * v_stride, c, 1, u + e * u_stride + column * c, width, m + e * m_stride + column, k, c},
              count, width);
        }
      transform_output(p, tiles, first, count, m, m_stride);
    }
  });
}

template <class T>
void pack(const float* w, std::int64_t c, std::int64_t k, float* u) {
  forward_filters<T>(w, c, k, u, matrix_size(c, k));
}

/// u: the transformed filters, null where they are still to be made.
template <class T>
void forward(const Pass<T>& p, const float* w, const float* u, float* scratch) {
  const std::int64_t c = p.x_shape[3], k = p.y_shape[3], stride = matrix_size(c, k);
  if (u) return convolve(p, u, stride, scratch);
  forward_filters<T>(w, c, k, scratch, stride);
  convolve(p, scratch, stride, scratch + kElements * stride);
}

template <class T>
void backward_data(const Pass<T>& p, const float* w, float* scratch) {
  const std::int64_t k = p.x_shape[3], c = p.y_shape[3], stride = matrix_size(c, k);
  turned_filters<T>(w, c, k, scratch, stride);
  convolve(p, scratch, stride, scratch + kElements * stride);
}

template <class T>
void backward_weight(const Pass<T>& p, const T* dy, float* dw, bool add, std::int64_t block, float* scratch) {
  constexpr std::int64_t kRowBlock =
      48;  // filters a task: enough tasks for every thread, 8 register blocks each
  const Tiles tiles(p.y_shape);
  const std::int64_t c = p.x_shape[3], k = p.y_shape[3];
  const std::int64_t stride = matrix_size(k, c), v_stride = matrix_size(block, c),
                     d_stride = matrix_size(block, k);
  float* v = scratch + kElements * stride;
  float* g = v + kElements * v_stride;
  const std::int64_t row_blocks = (k + kRowBlock - 1) / kRowBlock;
  for (std::int64_t first = 0; first < tiles.count; first += block) {
    const std::int64_t count = std::min(block, tiles.count - first);
    parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end, int) {
      transform_input(p, tiles, first + begin, end - begin, v + begin * c, v_stride);
      transform_gradient(dy, p.y_shape, tiles, first + begin, end - begin, g + begin * k, d_stride);
    });
    parallel_for(kElements * row_blocks, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t task = begin; task < end; ++task) {
        const std::int64_t e = task / row_blocks, row = task % row_blocks * kRowBlock;
        const Factors f{g + e * d_stride + row,         1, k,    v + e * v_stride, c,
                        scratch + e * stride + row * c, c, count};
        const std::int64_t rows = std::min(kRowBlock, k - row);
        if (first == 0)
          multiply<false>(f, rows, c);
        else
          multiply<true>(f, rows, c);
      }
    });
  }
  filter_gradients(scratch, stride, c, k, dw, add);
}

// ---- by dtype ----

template <class F>
void with_storage(DType t, F&& f) {
  if (t == DType::bf16) return f(BFloat16());
  f(float());
}

void pack_of(const Conv2dForward& a, void* packed) {
  with_storage(a.dtype(), [&]<class T>(T) {
    pack<T>(a.w.as<float>(), a.x.shape[3], a.y.shape[3], static_cast<float*>(packed));
  });
}
void forward_of(const Conv2dForward& a) {
  with_storage(a.dtype(), [&]<class T>(T) {
    const Pass<T> p{a.x.as<T>(),
                    a.x.shape,
                    a.y.as<T>(),
                    a.y.shape,
                    a.geometry.padding_h,
                    a.geometry.padding_w,
                    a.bias.as<float>(),
                    a.residual.as<T>(),
                    a.activation == Activation::relu,
                    false};
    forward(p, a.w.as<float>(), static_cast<const float*>(a.packed), static_cast<float*>(a.scratch));
  });
}
void backward_data_of(const Conv2dBackwardData& a) {
  with_storage(a.dtype(), [&]<class T>(T) {
    Pass<T> p{a.dy.as<T>(),
              a.dy.shape,
              a.dx.as<T>(),
              a.dx.shape,
              2 - a.geometry.padding_h,
              2 - a.geometry.padding_w};
    p.add = a.write == Write::add;
    backward_data(p, a.w.as<float>(), static_cast<float*>(a.scratch));
  });
}
void backward_weight_of(const Conv2dBackwardWeight& a, std::int64_t block) {
  with_storage(a.dtype(), [&]<class T>(T) {
    const Pass<T> p{a.x.as<T>(), a.x.shape, nullptr, a.dy.shape, a.geometry.padding_h, a.geometry.padding_w};
    backward_weight(p, a.dy.as<T>(), a.dw.as<float>(), a.write == Write::add, block,
                    static_cast<float*>(a.scratch));
  });
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
HWY_EXPORT(pack_of);
HWY_EXPORT(forward_of);
HWY_EXPORT(backward_data_of);
HWY_EXPORT(backward_weight_of);
}  // namespace
namespace winograd {
namespace {

std::atomic<bool>& is_enabled() {
  static std::atomic<bool> on{!without("winograd")};
  return on;
}

/// bf16 not where tiles (AMX) make direct products of it sixteen times as fast as those of fp32.
bool serves(DType in, DType out, const Shape& w, const Conv2dGeometry& g) {
  return in == out && (in == DType::f32 || (in == DType::bf16 && !cpu_info().amx_bf16)) && w[1] == 3 &&
         w[2] == 3 && g.stride_h == 1 && g.stride_w == 1 && g.dilation_h == 1 && g.dilation_w == 1 &&
         g.groups == 1 && g.padding_h <= 2 && g.padding_w <= 2 && w[0] % 16 == 0 && w[3] % 16 == 0;
}

/// Measured on Zen 4, one thread, against oneDNN 2.6: 2.0 to 2.8 times as fast at ResNet-18's shapes and
/// batches from 8 on. Not where most of a tile is outside the image, nor where the tiles are too few to pay
/// for the filters' transform, which costs as much as some 25 tiles at 512x512 filters.
bool pays(const Shape& w, const Shape& y) {
  const std::int64_t tiles = Tiles(y).count;
  return y[0] * y[1] * y[2] * 2 >= tiles * kTile * kTile && tiles >= 12 && tiles * 10000 >= w[0] * w[3];
}

std::size_t filter_bytes(std::int64_t c, std::int64_t k) {
  return static_cast<std::size_t>(kElements * matrix_size(c, k)) * sizeof(float);
}
std::size_t block_bytes(const Shape& y, std::int64_t c, std::int64_t k) {
  const std::int64_t tiles = Tiles(y).count, block = block_tiles(tiles, c, k);
  return static_cast<std::size_t>(block_parts(tiles, block) * block_floats(block, c, k)) * sizeof(float);
}

/// Tiles whose transforms stand together in wgrad: 1 MiB a thread, a core's L2, but so many that adding to
/// the sums, which are read and written once a block, stays cheap beside the product.
std::int64_t gradient_block(std::int64_t tiles, std::int64_t c, std::int64_t k) {
  const std::int64_t floats = std::int64_t{1 << 18} * num_threads();
  const std::int64_t block = std::max(floats / (kElements * (c + k)), c * k / (2 * (c + k)));
  return std::max<std::int64_t>(std::min(block, tiles), 1);
}

}  // namespace

void set_enabled(bool on) { is_enabled() = on; }
bool enabled() { return is_enabled(); }

bool suits(const Conv2dForward& a) {
  return enabled() && serves(a.dtype(), a.y.dtype, a.w.shape, a.geometry) && pays(a.w.shape, a.y.shape);
}
bool suits(const Conv2dBackwardData& a) {
  return enabled() && serves(a.dtype(), a.dx.dtype, a.w.shape, a.geometry) && pays(a.w.shape, a.dx.shape);
}
bool suits(const Conv2dBackwardWeight& a) {
  return enabled() && serves(a.dtype(), a.dy.dtype, a.dw.shape, a.geometry) && pays(a.dw.shape, a.dy.shape);
}

std::size_t packed_bytes(const Conv2dForward& a) { return filter_bytes(a.x.shape[3], a.y.shape[3]); }

std::size_t workspace(const Conv2dForward& a) {
  return (a.packed ? 0 : packed_bytes(a)) + block_bytes(a.y.shape, a.x.shape[3], a.y.shape[3]);
}
std::size_t workspace(const Conv2dBackwardData& a) {
  const std::int64_t k = a.dy.shape[3], c = a.dx.shape[3];
  return filter_bytes(k, c) + block_bytes(a.dx.shape, k, c);
}
std::size_t workspace(const Conv2dBackwardWeight& a) {
  const std::int64_t c = a.x.shape[3], k = a.dy.shape[3],
                     block = gradient_block(Tiles(a.dy.shape).count, c, k);
  return static_cast<std::size_t>(kElements * matrix_size(k, c) + block_floats(block, c, k)) * sizeof(float);
}

void pack(const Conv2dForward& a, void* packed) { HWY_DYNAMIC_DISPATCH(pack_of)(a, packed); }
void run(const Conv2dForward& a) { HWY_DYNAMIC_DISPATCH(forward_of)(a); }
void run(const Conv2dBackwardData& a) { HWY_DYNAMIC_DISPATCH(backward_data_of)(a); }
void run(const Conv2dBackwardWeight& a) {
  HWY_DYNAMIC_DISPATCH(backward_weight_of)
  (a, gradient_block(Tiles(a.dy.shape).count, a.x.shape[3], a.dy.shape[3]));
}

}  // namespace winograd
}  // namespace cairn::kernels
#endif

#endif  // CAIRN_KERNELS_F64
