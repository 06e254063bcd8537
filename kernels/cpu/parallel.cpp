#include "kernels/cpu/parallel.h"

#include <omp.h>

#include <atomic>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace cairn::kernels {
namespace {
// libgomp starts and joins its threads by futexes that ThreadSanitizer does not see. Told of both edges, it
// sees every race between the parts of a region, and none between a region and what precedes or follows it.
// The compiler's own reads of the region's arguments come before the edge, so they go unchecked.
#ifdef __SANITIZE_THREAD__
#define CAIRN_UNCHECKED_BY_TSAN __attribute__((no_sanitize("thread"), noinline))
void happens_before(void* edge) { __tsan_release(edge); }
void happens_after(void* edge) { __tsan_acquire(edge); }
#else
#define CAIRN_UNCHECKED_BY_TSAN
void happens_before(void*) {}
void happens_after(void*) {}
#endif

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

CAIRN_UNCHECKED_BY_TSAN void run_parts(int parts, void* context,
                                       void (*part)(void* context, int index) noexcept) {
  if (parts <= 1 || omp_in_parallel()) {
    for (int i = 0; i < parts; ++i) part(context, i);
    return;
  }
  // Nested regions run on one thread, so the context, alive throughout, can stand for the region's edges.
  happens_before(context);
  // The runtime may give fewer threads than asked for: then each runs several parts.
#pragma omp parallel num_threads(parts)
  {
    happens_after(context);
    for (int i = omp_get_thread_num(); i < parts; i += omp_get_num_threads()) part(context, i);
    happens_before(context);
  }
  happens_after(context);
}

}  // namespace cairn::kernels
