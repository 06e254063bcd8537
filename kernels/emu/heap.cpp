#include "kernels/emu/heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/emu/checks.h"
#include "kernels/emu/emu.h"
#include "kernels/emu/ledger.h"
#include "kernels/emu/recorder.h"
#include "kernels/emu/report.h"
#include "kernels/error.h"

namespace cairn::emu {
namespace {

constexpr std::size_t kPages = kHeapBytes / kPageBytes;

char* pointer(std::uintptr_t p) { return reinterpret_cast<char*>(p); }

struct Heap {
  std::mutex mutex;
  std::map<std::uintptr_t, std::unique_ptr<Allocation>> live;  // by first page
  std::map<std::uintptr_t, std::unique_ptr<Allocation>>
      freed;                                // the same, until the addresses are used again
  const Allocation** page_owner = nullptr;  // [kPages]
  std::uintptr_t next = kHeapBase;
  std::size_t in_use = 0;
  std::size_t limit = 0;  // 0: the profile's
  std::size_t alignment = 256;
  std::vector<std::uintptr_t> opened;

  Heap() {
    void* range = mmap(pointer(kHeapBase), kHeapBytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    void* owners = mmap(nullptr, kPages * sizeof(Allocation*), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range != pointer(kHeapBase) || owners == MAP_FAILED)
      throw Error("[emulated device] cannot reserve 64 GiB of addresses; raise `ulimit -v`");
    page_owner = static_cast<const Allocation**>(owners);
    if (const char* wanted = std::getenv("CAIRN_EMU_ALIGN"))
      set_alignment(std::strtoull(wanted, nullptr, 10));
  }
  void set_alignment(std::size_t bytes) {
    if (bytes != 16 && bytes != 256)
      throw InputError("[emulated device] heap alignment is " + std::to_string(bytes) +
                       "; it may be 16 or 256");
    alignment = bytes;
  }

  /// Addresses for `bytes`, a guard page included: behind all used ones, or from the start once the range is
  /// used up.
  std::uintptr_t place(std::size_t bytes) {
    if (next + bytes > kHeapBase + kHeapBytes) next = kHeapBase;
    for (bool wrapped = false;;) {
      const auto after = live.lower_bound(next);
      const std::uintptr_t gap_end = after == live.end() ? kHeapBase + kHeapBytes : after->first;
      if (gap_end - next >= bytes) break;
      if (after == live.end()) {
        if (wrapped) return 0;
        wrapped = true;
        next = kHeapBase;
        continue;
      }
      next = after->first + after->second->page_bytes + kPageBytes;
    }
    const std::uintptr_t out = next;
    next += bytes;
    const auto old = freed.lower_bound(out);
    auto last = old;
    while (last != freed.end() && last->first < next) ++last;
    freed.erase(old, last);
    return out;
  }
};

/// Never destroyed: device memory is given back from static destructors too.
Heap& heap() {
  static auto& h = *new Heap;
  return h;
}

/// The bytes between an allocation's end and its last page's are poison, unless somebody wrote there.
bool slack_intact(const Allocation& a) {
  const char* end = pointer(a.begin + a.bytes);
  const char* stop = pointer(a.pages + a.page_bytes);
  return std::all_of(end, stop, [](char c) { return static_cast<unsigned char>(c) == kPoison; });
}

std::string hex(std::uintptr_t p) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%zx", static_cast<std::size_t>(p));
  return text;
}

}  // namespace

void* device_malloc(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  Heap& h = heap();
  const std::lock_guard lock(h.mutex);
  const std::size_t limit = h.limit ? h.limit : device_profile().total_global_mem;
  if (bytes > limit || h.in_use > limit - bytes) return nullptr;
  const std::size_t page_bytes = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  const std::uintptr_t pages = h.place(page_bytes + kPageBytes);
  if (pages == 0 || mprotect(pointer(pages), page_bytes, PROT_READ | PROT_WRITE) != 0) return nullptr;

  auto a = std::make_unique<Allocation>();
  a->begin = pages + page_bytes - (bytes + h.alignment - 1) / h.alignment * h.alignment;
  a->bytes = bytes;
  a->pages = pages;
  a->page_bytes = page_bytes;
  // The mapping is fresh, and so zero: when nothing is computed, pages that nobody touches cost nothing.
  const std::uintptr_t poisoned = counting_only() ? a->begin + bytes : pages;
  std::memset(pointer(poisoned), kPoison, pages + page_bytes - poisoned);
  std::fill_n(h.page_owner + (pages - kHeapBase) / kPageBytes, page_bytes / kPageBytes, a.get());
  void* out = pointer(a->begin);
  h.in_use += bytes;
  h.live.emplace(pages, std::move(a));
  if (recording()) record_malloc(out, bytes);
  return out;
}

bool device_free(void* p) {
  Heap& h = heap();
  const std::lock_guard lock(h.mutex);
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  if (!in_heap(at)) return false;
  const Allocation* owner = h.page_owner[(at - kHeapBase) / kPageBytes];
  if (!owner || owner->begin != at) return false;
  if (recording()) record_free(p);
  if (!slack_intact(*owner)) {
    add_report({.defect = Defect::out_of_bounds,
                .message = "a kernel wrote behind the " + std::to_string(owner->bytes) +
                           " bytes allocated at " + hex(at) + ", found when they were freed"});
  }
  const auto node = h.live.extract(owner->pages);
  Allocation& a = *node.mapped();
  a.live = false;
  h.in_use -= a.bytes;
  std::fill_n(h.page_owner + (a.pages - kHeapBase) / kPageBytes, a.page_bytes / kPageBytes, nullptr);
  // A fresh mapping, not mprotect: it gives the memory back too.
  mmap(pointer(a.pages), a.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
       0);
  shadow_free(a);
  h.freed.insert_or_assign(a.pages, std::move(node.mapped()));
  return true;
}

bool is_device_pointer(const void* p) { return in_heap(reinterpret_cast<std::uintptr_t>(p)); }

const Allocation* allocation_at(std::uintptr_t p) {
  return in_heap(p) ? heap().page_owner[(p - kHeapBase) / kPageBytes] : nullptr;
}

bool device_range_valid(const void* p, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  const Allocation* a = allocation_at(at);
  return a && a->contains(at, bytes);
}

std::size_t device_bytes_in_use() {
  const std::lock_guard lock(heap().mutex);
  return heap().in_use;
}
void set_memory_limit(std::size_t bytes) {
  const std::lock_guard lock(heap().mutex);
  heap().limit = bytes;
}
void set_heap_alignment(std::size_t bytes) {
  const std::lock_guard lock(heap().mutex);
  heap().set_alignment(bytes);
}

void device_write(void* device, const void* host, std::size_t bytes) {
  std::memcpy(device, host, bytes);
  if (recording()) record_write(device, host, bytes);
  shadow_host_access(device, bytes, true);
}
void device_read(void* host, const void* device, std::size_t bytes) {
  std::memcpy(host, device, bytes);
  if (recording()) record_read(device, bytes);
  shadow_host_access(device, bytes, false);
}
void device_copy(void* to, const void* from, std::size_t bytes) {
  std::memmove(to, from, bytes);
  if (recording()) record_copy(to, from, bytes);
  shadow_copy(to, from, bytes);
}
void device_fill(void* device, int value, std::size_t bytes) {
  std::memset(device, value, bytes);
  if (recording()) record_fill(device, value, bytes);
  shadow_host_access(device, bytes, true);
}

AddressFacts describe_address(std::uintptr_t p) {
  Heap& h = heap();
  const std::lock_guard lock(h.mutex);
  const auto relation = [p](const Allocation& a) {
    const std::string what = " the " + std::to_string(a.bytes) + " bytes allocated at " + hex(a.begin) +
                             (a.live ? "" : " and since freed");
    if (p < a.begin) return std::to_string(a.begin - p) + " bytes before" + what;
    if (p >= a.begin + a.bytes)
      return std::to_string(p - a.begin - a.bytes) + " bytes behind the end of" + what;
    return "byte " + std::to_string(p - a.begin) + " of" + what;
  };
  // The allocation on whose pages p lies, else the live one nearest below, else the nearest above.
  for (const auto* map : {&h.live, &h.freed}) {
    auto it = map->upper_bound(p);
    if (it == map->begin()) continue;
    const Allocation& a = *std::prev(it)->second;
    if (p < a.pages + a.page_bytes) return {relation(a), !a.live};
  }
  const auto above = h.live.upper_bound(p);
  if (above != h.live.begin()) return {relation(*std::prev(above)->second), false};
  if (above != h.live.end()) return {relation(*above->second), false};
  return {"an address of the device, where nothing is allocated", false};
}

bool open_page(std::uintptr_t p) {
  if (!in_heap(p)) return false;
  const std::uintptr_t page = p / kPageBytes * kPageBytes;
  void* mapped = mmap(pointer(page), kPageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (mapped == MAP_FAILED) return false;
  std::memset(mapped, kPoison, kPageBytes);
  heap().opened.push_back(page);
  return true;
}

void close_pages() {
  for (const std::uintptr_t page : heap().opened)
    mmap(pointer(page), kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
  heap().opened.clear();
}

}  // namespace cairn::emu
