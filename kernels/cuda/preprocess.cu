// y[n,h,w,c] = (x[index[n], top+h, left+w, c] / 255 - mean[c]) / std[c], mirrored in w where flip[n];
// kernels/preprocess.h. Bytes: x once (1 an element), y once (2 or 4). Limited by memory: y is written 16
// bytes a thread, and x read as many elements at once where y has them in x's order; mirrored or padded, they
// are read one by one, neighbours from the same sectors.
#include "kernels/preprocess.h"

#include "kernels/cuda/device/divide.h"
#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

template <class T>
struct PreprocessOf {
  const uint8_t* x;      // [I,X,Z,3]
  const uint8_t* flip;   // [N] or null
  const int32_t* index;  // [N], into x, or null
  const int32_t* crop;   // [N,2]: top, left, or null
  T* y;                  // [N,H,W,channels]
  int64_t image_pixels, width, x_pixels, x_width;
  int channels;
  Compute<T> mean[3], std[3];
  bool in_order;  // no flip, crop or padding; x and its images start at whole groups

  __device__ Compute<T> normalized(uint8_t byte, int c) const {
    const Compute<T> value = static_cast<Compute<T>>(byte) / Compute<T>(255);
    // No array index that the compiler does not know: the constants stay in registers.
    return c == 0   ? (value - mean[0]) / std[0]
           : c == 1 ? (value - mean[1]) / std[1]
                    : (value - mean[2]) / std[2];
  }
  __device__ Compute<T> at(int64_t i) const {
    int64_t pixel = i / channels;
    const int c = static_cast<int>(i - pixel * channels);
    if (c >= 3) return Compute<T>(0);
    if (flip || index || crop) {
      const int64_t image = pixel / image_pixels;
      pixel -= image * image_pixels;
      if (flip && flip[image] != 0) pixel += width - 1 - 2 * (pixel % width);
      if (crop)
        pixel += (crop[2 * image] + pixel / width) * x_width - pixel / width * width + crop[2 * image + 1];
      pixel += (index ? index[image] : image) * x_pixels;
    }
    return normalized(x[pixel * 3 + c], c);
  }
  template <int kWidth>
  __device__ void run(int64_t i) const {
    Values<kWidth, T> values;
    if (in_order) {
      int64_t from = i;
      if (index) {
        const int64_t image = divide(i, image_pixels * 3);
        from += (index[image] - image) * image_pixels * 3;
      }
      const Pack<kWidth, uint8_t> bytes = load_pack<kWidth>(x + from);
      int c = static_cast<int>(i - divide(i, 3) * 3);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        values.v[k] = normalized(bytes.v[k], c);
        c = c == 2 ? 0 : c + 1;
      }
    } else {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) values.v[k] = at(i + k);
    }
    land_values(y + i, values, Write::assign);
  }
};

Status preprocess_cuda(const Queue& q, const Preprocess& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    PreprocessOf<T> f{a.x.as<uint8_t>(),
                      a.flip.as<uint8_t>(),
                      a.index.as<int32_t>(),
                      a.crop.as<int32_t>(),
                      a.y.as<T>(),
                      a.y.shape[1] * a.y.shape[2],
                      a.y.shape[2],
                      a.x.shape[1] * a.x.shape[2],
                      a.x.shape[2],
                      static_cast<int>(a.y.shape[3]),
                      {},
                      {},
                      false};
    constexpr int kWidth = 16 / static_cast<int>(sizeof(T));
    f.in_order = !f.flip && !f.crop && f.channels == 3 && aligned(f.x, kWidth) &&
                 (!f.index || f.image_pixels * 3 % kWidth == 0);
    for (int c = 0; c < 3; ++c) {
      f.mean[c] = static_cast<Compute<T>>(a.mean[c]);
      f.std[c] = static_cast<Compute<T>>(a.std[c]);
    }
    return launch_elementwise<kWidth>(stream_of(q), a.y.numel(), aligned_16({a.y.data}), f);
  });
}

const FillCuda kFill{preprocess, &preprocess_cuda};

}  // namespace
}  // namespace cairn::kernels
