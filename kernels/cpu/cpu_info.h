#pragma once
#include <string>

namespace cairn::kernels {

/// What this machine's processor offers and its system lets programs use.
struct CpuInfo {
  std::string model;  // "Intel(R) Xeon(R) Platinum 8488C"; "unknown CPU" if the system does not say
  int cores = 1;      // logical ones that this process may run on
  bool sse4 = false, avx2 = false, avx512 = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  // tiles with bf16 products
};
/// Asked once, then kept.
const CpuInfo& cpu_info();

/// The widest of "AMX", "AVX-512 with bf16", "AVX-512", "AVX2", "SSE4", "baseline".
std::string describe_isa(const CpuInfo& info);

}  // namespace cairn::kernels
