#pragma once
#include <cstdint>

#include "kernels/dispatch.h"

namespace cairn::kernels {
/// quotients[i] = divide(a[i], b[i]) in a kernel; all in device memory, n up to 256.
Status run_divide(const std::int64_t* a, const std::int64_t* b, std::int64_t* quotients, int n);
}  // namespace cairn::kernels
