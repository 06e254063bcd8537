#include "kernels/device.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/parallel.h"
#include "kernels/without.h"

namespace cairn::kernels {
namespace {

constexpr std::size_t kAlignment = 256;
// From two huge pages on, memory asks for them: fewer misses in the address translation of large tensors.
constexpr std::size_t kHugePage = std::size_t{2} << 20;

Status allocate(int, std::size_t bytes, void** out) {
  const bool huge = bytes >= 2 * kHugePage;
  const std::size_t alignment = huge ? kHugePage : kAlignment;
  const std::size_t rounded = (std::max(bytes, std::size_t{1}) + alignment - 1) / alignment * alignment;
  *out = rounded < bytes ? nullptr : std::aligned_alloc(alignment, rounded);  // the sum may wrap
  if (!*out)
    return Status::error("no memory for " + std::to_string(bytes) + " bytes", Status::Code::out_of_memory);
#if defined(__linux__)
  // A wish: memory without huge pages serves too.
  if (huge && !without("huge-pages")) madvise(*out, rounded, MADV_HUGEPAGE);
#endif
  return {};
}
Status release(int, void* memory) {
  std::free(memory);
  return {};
}

/// As much as the machine has: what a process asks for beyond that it does not get. Nothing where addresses
/// are limited (ulimit -v), for whoever limits them means memory.
void reserve(int, void*& begin, std::size_t& bytes) {
  begin = nullptr;
  bytes = 0;
  rlimit addresses{};
  if (getrlimit(RLIMIT_AS, &addresses) != 0 || addresses.rlim_cur != RLIM_INFINITY) return;
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return;
  const std::size_t room =
      static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) / kHugePage * kHugePage;
  void* memory = mmap(nullptr, room + kHugePage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  const auto address = reinterpret_cast<std::uintptr_t>(memory);
  begin = reinterpret_cast<void*>((address + kHugePage - 1) / kHugePage * kHugePage);
  bytes = room;
  if (!without("huge-pages")) madvise(begin, bytes, MADV_HUGEPAGE);
}
void discard(int, void* begin, std::size_t bytes) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = (address + page - 1) / page * page, end = (address + bytes) / page * page;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

constexpr DeviceApi kApi = {
    .count = [](std::string&) { return 1; },
    .describe =
        [](int) {
          const int threads = num_threads();
          return cpu_info().model + ", " + std::to_string(threads) +
                 (threads == 1 ? " thread, " : " threads, ") + describe_isa(cpu_info());
        },
    .allocate = &allocate,
    .release = &release,
    .allocate_host = [](std::size_t bytes, void** out) { return allocate(0, bytes, out); },
    .release_host = [](void* memory) { return release(0, memory); },
    .create_queue =
        [](int index, Queue& out) {
          out = Queue{{DeviceType::cpu, index}, nullptr};
          return Status();
        },
    .destroy_queue = [](const Queue&) { return Status(); },
    .copy =
        [](const Queue&, void* dst, const void* src, std::size_t bytes, CopyKind) {
          parallel_elements(static_cast<std::int64_t>(bytes), [&](std::int64_t begin, std::int64_t end, int) {
            std::memcpy(static_cast<char*>(dst) + begin, static_cast<const char*>(src) + begin,
                        static_cast<std::size_t>(end - begin));
          });
          return Status();
        },
    .fill_zero =
        [](const Queue&, void* dst, std::size_t bytes) {
          parallel_elements(static_cast<std::int64_t>(bytes), [&](std::int64_t begin, std::int64_t end, int) {
            std::memset(static_cast<char*>(dst) + begin, 0, static_cast<std::size_t>(end - begin));
          });
          return Status();
        },
    // Work is done when a call returns: there is nothing to wait for.
    .synchronize = [](const Queue&) { return Status(); },
    .create_event =
        [](int, void*& event) {
          event = nullptr;
          return Status();
        },
    .destroy_event = [](void*) { return Status(); },
    .record_event = [](const Queue&, void*) { return Status(); },
    .queue_wait_event = [](const Queue&, void*) { return Status(); },
    .host_wait_event = [](void*) { return Status(); },
    .query_event =
        [](void*, bool& done) {
          done = true;
          return Status();
        },
    // Without instructions for it bf16 is emulated by conversions, and slower than fp32.
    .fast_dtype =
        [](int) { return cpu_info().amx_bf16 || cpu_info().avx512_bf16 ? DType::bf16 : DType::f32; },
    .reserve = &reserve,
    .discard = &discard,
    .part_bytes = std::size_t{8} << 20,  // half an L3 of 16 MiB, the smallest of current server cores' shares
};
[[maybe_unused]] const bool kRegistered = (register_device_api(DeviceType::cpu, &kApi), true);

}  // namespace
}  // namespace cairn::kernels
