#include "kernels/pointwise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pointwise.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void relu_range(const T* x, T* y, std::int64_t begin, std::int64_t end) {
  const Tag<T> d;
  for_each_vector(d, begin, end, [&](std::int64_t i, auto part) HWY_ATTR {
    const auto v = load(d, x + i, part);
    store(d, hn::IfThenZeroElse(hn::Lt(v, hn::Zero(d)), v), y + i, part);
  });
}

Status relu_forward_cpu(const Queue&, const ReluForward& a) {
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    parallel_elements(a.x.numel(), [&](std::int64_t begin, std::int64_t end, int) {
      relu_range(a.x.as<T>(), a.y.as<T>(), begin, end);
    });
  });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
CAIRN_CPU_SIMD_FILL(relu_forward, relu_forward_cpu);
}
}  // namespace cairn::kernels
#endif
