#include "kernels/cpu/cpu_info.h"

#include <sched.h>

#include <cstdint>
#include <fstream>
#include <thread>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace cairn::kernels {
namespace {

std::string model_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const std::size_t start = line.find_first_not_of(" \t", line.find(':') + 1);
    if (start != std::string::npos) return line.substr(start);
  }
  return "unknown CPU";
}

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? static_cast<int>(n) : 1;
}

CpuInfo detect() {
  CpuInfo info;
  info.model = model_name();
  info.cores = usable_cores();
#if defined(__x86_64__)
  info.sse4 = __builtin_cpu_supports("sse4.2");
  info.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  info.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  // Leaf 7 (Intel SDM vol. 2, CPUID): the compilers' builtin does not know AMX everywhere.
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) info.avx512_bf16 = info.avx512 && (eax >> 5 & 1u);
  if (info.avx512 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx >> 22 & 1u) &&
      (edx >> 24 & 1u)) {
    // AVX-512 implies XGETBV; bits 17 and 18 say that the system saves the tiles.
    std::uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    info.amx_bf16 = (low >> 17 & 3u) == 3u;
  }
#endif
  return info;
}

}  // namespace

const CpuInfo& cpu_info() {
  static const CpuInfo info = detect();
  return info;
}

std::string describe_isa(const CpuInfo& info) {
  if (info.amx_bf16) return "AMX";
  if (info.avx512_bf16) return "AVX-512 with bf16";
  if (info.avx512) return "AVX-512";
  if (info.avx2) return "AVX2";
  return info.sse4 ? "SSE4" : "baseline";
}

}  // namespace cairn::kernels
