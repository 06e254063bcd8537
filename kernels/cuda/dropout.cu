// y = x / (1-p) where kept, else 0 (Srivastava et al. 2014), kernels/dropout.h. The mask's bits are Philox
// 4x32-10's words against floor(p * 2^32): those of every device. Bytes: x once, y once (with Write::add y
// once more); no mask is stored. Limited by memory for fp32 and, where integer multiplies are slow, by
// Philox: 40 of them for four elements.
#include "kernels/dropout.h"

#include "kernels/cuda/device/elementwise.h"
#include "kernels/cuda/fill.h"
#include "kernels/philox.h"

namespace cairn::kernels {
namespace {

__device__ __forceinline__ uint32_t word_of(const Philox4x32& block, int64_t index) {
  const int k = static_cast<int>(index % 4);  // no array index: the words stay in registers
  return k == 0 ? block.v[0] : k == 1 ? block.v[1] : k == 2 ? block.v[2] : block.v[3];
}

template <class T>
struct DropoutOf {
  const T* x;           // [n]
  T* y;                 // [n]
  const int64_t* step;  // [1] or null
  uint64_t seed, stream;
  int64_t first;  // a multiple of 4 where groups are wide
  uint32_t threshold;
  Compute<T> scale;
  Write write;
  template <int kWidth>
  __device__ void run(int64_t i) const {
    const uint64_t drawn = step ? static_cast<uint64_t>(*step) : 0;
    const uint64_t at = stream + (drawn << 32);
    Values<kWidth, T> v = load_values<kWidth>(x + i);
    Philox4x32 words{};
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const int64_t index = first + i + k;
      if (k % 4 == 0) words = philox(seed, at, static_cast<uint64_t>(index / 4));
      const uint32_t word = kWidth % 4 == 0 ? words.v[k % 4] : word_of(words, index);
      v.v[k] = word < threshold ? Compute<T>(0) : scale * v.v[k];
    }
    land_values(y + i, v, write);
  }
};

Status dropout_cuda(const Queue& q, const Dropout& a) {
  return with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    using C = Compute<T>;
    const bool wide = aligned_16({a.x.data, a.y.data}) && a.first_index % 4 == 0;
    return launch_elementwise<16 / static_cast<int>(sizeof(T))>(
        stream_of(q), a.x.numel(), wide,
        DropoutOf<T>{a.x.as<T>(), a.y.as<T>(), a.step.as<int64_t>(), a.seed, a.stream, a.first_index,
                     static_cast<uint32_t>(static_cast<double>(a.p) * 4294967296.0),  // p < 1
                     C(1) / (C(1) - static_cast<C>(a.p)), a.write});
  });
}

const FillCuda kDropout{dropout, &dropout_cuda};

}  // namespace
}  // namespace cairn::kernels
