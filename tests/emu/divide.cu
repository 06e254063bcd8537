#include "tests/emu/divide.h"

#include "kernels/cuda/device/divide.h"
#include "kernels/cuda/launch.h"

namespace cairn::kernels {
namespace {
__global__ void divide_kernel(const int64_t* a, const int64_t* b, int64_t* quotients, int n) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < n) quotients[i] = divide(a[i], b[i]);
}
}  // namespace

Status run_divide(const int64_t* a, const int64_t* b, int64_t* quotients, int n) {
  return launch(divide_kernel, dim3(1), dim3(256), 0, nullptr, a, b, quotients, n);
}
}  // namespace cairn::kernels
