#pragma once
#include <cstdint>
#include <functional>

namespace cairn::data {

/// Threads to use where 0 asks for one a core.
int resolve_workers(int workers);

/// Runs body(i) for i in [0, n) on up to `workers` threads (0: one a core), each taking the next i. If bodies
/// throw, the exception of the smallest i that was reached is thrown after all threads have stopped.
void parallel_for(int64_t n, int workers, const std::function<void(int64_t)>& body);

}  // namespace cairn::data
