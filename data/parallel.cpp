#include "data/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>
#include <vector>

namespace cairn::data {

int resolve_workers(int workers) {
  return workers > 0 ? workers : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void parallel_for(int64_t n, int workers, const std::function<void(int64_t)>& body) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  int64_t first_failure = std::numeric_limits<int64_t>::max();
  std::exception_ptr error;
  const auto work = [&] {
    for (int64_t i; !failed && (i = next.fetch_add(1)) < n;) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        failed = true;
        if (i < first_failure) {
          first_failure = i;
          error = std::current_exception();
        }
      }
    }
  };
  std::vector<std::jthread> threads;
  const int64_t extra = std::min<int64_t>(resolve_workers(workers), n) - 1;
  for (int64_t t = 0; t < extra; ++t) threads.emplace_back(work);
  work();
  threads.clear();  // joins
  if (error) std::rethrow_exception(error);
}

}  // namespace cairn::data
