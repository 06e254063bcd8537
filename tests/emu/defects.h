#pragma once
#include <cuda_runtime_api.h>

#include <span>

#include "kernels/dispatch.h"

namespace cairn::kernels {

/// A known mistake: a kernel that has it and one that does the same rightly. In defects.cu the line that a
/// report must name carries the comment "DEFECT name".
struct Mistake {
  const char* name;
  void (*wrong)(float* a, float* b, int n);
  void (*right)(float* a, float* b, int n);
  unsigned grid = 1, block = 64;
  std::size_t shared_bytes = 0;
};
std::span<const Mistake> mistakes();

/// a: n floats that were written; b: n floats that were not.
Status run_mistake(const Mistake& mistake, bool wrong, float* a, float* b, int n);

}  // namespace cairn::kernels
