#include "kernels/cpu/parallel.h"

#include <omp.h>

#include <atomic>

namespace cairn::kernels {
namespace {
// OpenMP keeps its own setting per thread; the count must be one for the process or partitions would differ.
constinit std::atomic<int> thread_count{0};
}  // namespace

int num_threads() {
  int n = thread_count.load(std::memory_order_relaxed);
  if (n > 0) return n;
  const int offered = omp_get_max_threads();
  return thread_count.compare_exchange_strong(n, offered) ? offered : n;
}

void set_num_threads(int n) {
  n = std::max(n, 1);
  thread_count.store(n);
  omp_set_num_threads(n);
}

void run_parts(int parts, void* context, void (*part)(void* context, int index) noexcept) {
  if (parts <= 1 || omp_in_parallel()) {
    for (int i = 0; i < parts; ++i) part(context, i);
    return;
  }
  // The runtime may give fewer threads than asked for: then each runs several parts.
#pragma omp parallel num_threads(parts)
  for (int i = omp_get_thread_num(); i < parts; i += omp_get_num_threads()) part(context, i);
}

}  // namespace cairn::kernels
