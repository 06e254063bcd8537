// First half of simd.h: chooses the targets and compiles the including file once for each of them. No include
// guard: Highway's own toggles decide what happens on each inclusion.
//
// Three targets keep a file's compile time under 10 s: SSE4 as the floor (oneDNN needs it too), AVX2,
// AVX-512.
#ifndef HWY_DISABLED_TARGETS
#if defined(__x86_64__)
#define HWY_BASELINE_TARGETS HWY_SSE4
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SCALAR | HWY_EMU128)
#else
#define HWY_DISABLED_TARGETS 0
#endif
#endif
#include "hwy/foreach_target.h"
