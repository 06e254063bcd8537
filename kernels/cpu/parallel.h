#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>

namespace cairn::kernels {

/// Threads that CPU kernels use; at first what OpenMP offers (OMP_NUM_THREADS, else the usable cores).
int num_threads();
/// Sets it for every thread's kernels from now on, and for the oneDNN calls of the calling thread; at
/// least 1.
void set_num_threads(int n);

/// Parts into which parallel_for cuts n items: at most one a thread, each of at least about `grain` items.
inline int parallel_parts(std::int64_t n, std::int64_t grain) {
  if (n <= 0) return 0;
  const std::int64_t most = (n + grain - 1) / std::max<std::int64_t>(grain, 1);
  return static_cast<int>(std::clamp<std::int64_t>(most, 1, num_threads()));
}

/// Runs part(context, 0 .. parts-1) on the threads. One thread runs them all, in order, if there is only one
/// part or the caller is already inside a parallel region.
void run_parts(int parts, void* context, void (*part)(void* context, int index) noexcept);

/// Calls f(begin, end, part) for the parts of [0, n). The cut depends on n, grain and num_threads() alone,
/// also where one thread runs every part, so that reductions by part give the same bits. f must not throw.
/// part < parallel_parts(n, grain) numbers the piece, for scratch of its own.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
  struct Context {
    std::remove_reference_t<F>* f;
    std::int64_t n;
    int parts;
  } context{std::addressof(f), n, parallel_parts(n, grain)};
  run_parts(context.parts, &context, [](void* p, int part) noexcept {
    const Context& c = *static_cast<const Context*>(p);
    (*c.f)(c.n * part / c.parts, c.n * (part + 1) / c.parts, part);
  });
}

/// The same over single elements of flat arrays: parts begin at multiples of 64 elements (whole cache lines
/// and vectors) and hold enough of them to be worth a thread.
template <class F>
void parallel_elements(std::int64_t n, F&& f) {
  constexpr std::int64_t kBlock = 64;
  constexpr std::int64_t kGrain = 256;  // blocks: 16384 elements, some microseconds, about a thread's wake-up
  parallel_for((n + kBlock - 1) / kBlock, kGrain, [&](std::int64_t begin, std::int64_t end, int part) {
    f(begin * kBlock, std::min(end * kBlock, n), part);
  });
}
/// Parts into which parallel_elements cuts n.
inline int parallel_elements_parts(std::int64_t n) { return parallel_parts((n + 63) / 64, 256); }

}  // namespace cairn::kernels
