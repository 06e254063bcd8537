// The matrix products of winograd.cpp: small blocks held in registers.

// Included once a target, as simd.h.
#if defined(CAIRN_KERNELS_CPU_WINOGRAD_PRODUCT_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CAIRN_KERNELS_CPU_WINOGRAD_PRODUCT_H_
#undef CAIRN_KERNELS_CPU_WINOGRAD_PRODUCT_H_
#else
#define CAIRN_KERNELS_CPU_WINOGRAD_PRODUCT_H_
#endif

#include "kernels/cpu/winograd_axis.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

/// Rows and vectors of a block of the product in registers: 24 of 32 sums with 512 bits, 12 of 16 below.
constexpr std::int64_t kRowsHeld = 6;
constexpr std::int64_t kVectorsHeld = HWY_TARGET == HWY_AVX3 ? 4 : 2;

struct Factors {
  const float* a;  // (row, depth) at a[row * a_row + depth * a_depth]
  std::int64_t a_row, a_depth;
  const float* b;  // (depth, column) at b[depth * b_depth + column]
  std::int64_t b_depth;
  float* out;  // (row, column) at out[row * out_row + column]
  std::int64_t out_row;
  std::int64_t depth;
};

template <int kR, int kV, bool kAdd>
HWY_INLINE void multiply_block(const Factors& f, std::int64_t row, std::int64_t column) {
  const D d;
  const std::int64_t n = lanes<float>();
  V sum[kR][kV];
  for (int i = 0; i < kR; ++i)
    for (int j = 0; j < kV; ++j) sum[i][j] = hn::Zero(d);
  const float* a = f.a + row * f.a_row;
  const float* b = f.b + column;
  for (std::int64_t l = 0; l < f.depth; ++l, a += f.a_depth, b += f.b_depth) {
    V vb[kV];
    for (int j = 0; j < kV; ++j) vb[j] = hn::LoadU(d, b + j * n);
    for (int i = 0; i < kR; ++i) {
      const V va = hn::Set(d, a[i * f.a_row]);
      for (int j = 0; j < kV; ++j) sum[i][j] = hn::MulAdd(va, vb[j], sum[i][j]);
    }
  }
  for (int i = 0; i < kR; ++i)
    for (int j = 0; j < kV; ++j) {
      float* p = f.out + (row + i) * f.out_row + column + j * n;
      hn::StoreU(kAdd ? hn::Add(hn::LoadU(d, p), sum[i][j]) : sum[i][j], d, p);
    }
}

template <int kV, bool kAdd>
HWY_NOINLINE void multiply_rows(const Factors& f, std::int64_t rows, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + kRowsHeld <= rows; row += kRowsHeld) multiply_block<kRowsHeld, kV, kAdd>(f, row, column);
  for (; row + 2 <= rows; row += 2) multiply_block<2, kV, kAdd>(f, row, column);
  for (; row < rows; ++row) multiply_block<1, kV, kAdd>(f, row, column);
}

/// out (+)= a b for `columns` columns, a multiple of the vector.
template <bool kAdd>
HWY_INLINE void multiply(const Factors& f, std::int64_t rows, std::int64_t columns) {
  const std::int64_t n = lanes<float>();
  std::int64_t column = 0;
  for (; column + kVectorsHeld * n <= columns; column += kVectorsHeld * n)
    multiply_rows<kVectorsHeld, kAdd>(f, rows, column);
  if constexpr (kVectorsHeld > 2)
    for (; column + 2 * n <= columns; column += 2 * n) multiply_rows<2, kAdd>(f, rows, column);
  for (; column < columns; column += n) multiply_rows<1, kAdd>(f, rows, column);
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
