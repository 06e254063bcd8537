#include <cstdio>

#include "bench/kernels/bench.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/parallel.h"

// kernel_bench [--benchmark_...]: Google Benchmark's options. For a table: scripts/bench-kernels.
int main(int count, char** arguments) {
  using namespace cairn;
  try {
    bench::register_pointwise();
    bench::register_elementwise();
    bench::register_batch_norm();
    bench::register_pool();
    bench::register_loss();
    bench::register_optimizer();
    bench::register_conv();
    bench::register_plain();
    bench::register_resampling();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_bench: %s\n", error.what());
    return 1;
  }
  const kernels::CpuInfo& cpu = kernels::cpu_info();
  benchmark::AddCustomContext("cpu", cpu.model + ", " + kernels::describe_isa(cpu));
  benchmark::AddCustomContext("threads", std::to_string(kernels::num_threads()));
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
