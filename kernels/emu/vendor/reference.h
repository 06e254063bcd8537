#pragma once
/// Host arithmetic behind the stand-ins for NVIDIA's libraries: fp32, through oneDNN, on the dims and strides
/// that a call of the library named, whatever they are. It knows nothing of cairn's tensors.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace cairn::emu {

enum class Element : std::uint8_t { f32, bf16, f16 };

/// A tensor in device memory as a library call describes it: (N,C,H,W), filters (K,C/groups,R,S); strides in
/// elements.
struct StridedTensor {
  void* data = nullptr;
  Element type = Element::f32;
  std::array<std::int64_t, 4> dims{}, strides{};
};

/// From the first element to the last that dims and strides reach.
std::size_t bytes_of(const StridedTensor& t);

/// A tensor's values without gaps, channels last: [N,H,W,C].
struct DenseTensor {
  std::array<std::int64_t, 4> dims{};  // N, C, H, W
  std::vector<float> values;
};

/// Copies a tensor out of device memory. Where dims and strides reach beyond an allocation, that is reported
/// as a kernel's access would be, and the values are NaN.
DenseTensor gather(const StridedTensor& t, const std::string& who);
/// Rounds values to the tensor's type and writes them where its strides say; what lies between is left alone.
void scatter(const StridedTensor& t, const DenseTensor& from, const std::string& who);

enum class ConvPass : std::uint8_t { fprop, dgrad, wgrad };
struct ConvGeometry {
  std::array<std::int64_t, 2> stride{}, padding{}, dilation{};
  bool flip = false;  // true convolution, with filters turned by 180 degrees; else cross-correlation
};
/// y, dx or dw (by pass) from the other two; `out` has its dims set. Throws std::exception where the dims do
/// not fit together.
void convolve(ConvPass pass, const ConvGeometry& g, const DenseTensor& x, const DenseTensor& w,
              const DenseTensor& y, DenseTensor& out);

/// One matrix in device memory: column-major unless `row_major`, with its leading dimension.
struct Matrix {
  void* data = nullptr;
  Element type = Element::f32;
  std::int64_t rows = 0, columns = 0, leading = 0;
  bool row_major = false;
};
/// The values, column-major without gaps.
std::vector<float> gather(const Matrix& m, const std::string& who);
void scatter(const Matrix& m, const std::vector<float>& values, const std::string& who);
/// op(a) op(b), column-major without gaps: op(a) is m x k, op(b) k x n.
std::vector<float> multiply(std::int64_t m, std::int64_t n, std::int64_t k, bool transpose_a,
                            const std::vector<float>& a, bool transpose_b, const std::vector<float>& b);

}  // namespace cairn::emu
