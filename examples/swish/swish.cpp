// Swish (Ramachandran et al. 2017): y = x * s, s = 1 / (1 + exp(-x));  dx = dy * s * (1 + x * (1 - s)).
// One functor makes the CPU's and the CUDA device's kernels, in every dtype.
#include "kernels/elementwise.h"

namespace cairn {

struct Swish {
  static constexpr const char* kName = "swish";
  template <class C>
  CAIRN_HOST_DEVICE static C sigmoid(C x) {
    return C(1) / (C(1) + std::exp(-x));
  }
  template <class C>
  CAIRN_HOST_DEVICE C forward(C x) const {
    return x * sigmoid(x);
  }
  template <class C>
  CAIRN_HOST_DEVICE C backward(C x, C dy) const {
    const C s = sigmoid(x);
    return dy * s * (C(1) + x * (C(1) - s));
  }
};
CAIRN_ELEMENTWISE(Swish);

}  // namespace cairn

#if !defined(CAIRN_DEVICE_PASS)
#include "engine/elementwise.h"

namespace cairn {

Tensor swish(const Tensor& x) { return elementwise(Swish{}, x); }

}  // namespace cairn
#endif
