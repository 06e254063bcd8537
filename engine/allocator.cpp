#include "engine/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/without.h"

#if defined(__SANITIZE_ADDRESS__)
#define CAIRN_ALLOCATOR_DIRECT true
#else
#define CAIRN_ALLOCATOR_DIRECT false
#endif

namespace cairn {
namespace {

/// Classes an eighth of a power of two apart: at most 12.5 % of a block is unused, and a step whose sizes
/// differ a little from the last one's still finds its blocks.
std::size_t block_size(std::size_t bytes) {
  constexpr std::size_t kSmallest = 512;
  if (bytes <= kSmallest) return kSmallest;
  const std::size_t step = std::max<std::size_t>(std::bit_floor(bytes - 1) / 8, 256);
  return (bytes + step - 1) / step * step;
}

/// From here on a block stands in the arena: what is smaller is small change, and would leave gaps between
/// the large ones.
constexpr std::size_t kArenaBlock = std::size_t{64} << 10;

bool wants_direct() {
  const char* mode = std::getenv("CAIRN_ALLOCATOR");
  return CAIRN_ALLOCATOR_DIRECT || (mode && std::strcmp(mode, "direct") == 0);
}

}  // namespace

CachingAllocator::CachingAllocator(Device device)
    : CachingAllocator(device, *kernels::device_api(device.type)) {}
CachingAllocator::CachingAllocator(Device device, const kernels::DeviceApi& api)
    : device_(device), api_(api), direct_(wants_direct()) {
  if (direct_ || !api_.reserve || kernels::without("arena")) return;
  void* begin = nullptr;
  api_.reserve(device.index, begin, arena_bytes_);
  if (!begin) return;
  arena_begin_ = static_cast<char*>(begin);
  arena_ = std::make_unique<Arena>(arena_bytes_ / Arena::kAlign * Arena::kAlign);
}

void* CachingAllocator::allocate(std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  if (void* memory = allocate_from_arena(bytes)) return memory;
  const std::size_t block = direct_ ? std::max<std::size_t>(bytes, 1) : block_size(bytes);
  void* memory = open_pool_ ? take(pools_[open_pool_], block) : nullptr;
  if (!memory) memory = take(free_, block);
  if (!memory) memory = allocate_from_device(block);
  live_[memory] = {block, open_pool_};
  stats_.in_use += static_cast<std::int64_t>(block);
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
  return memory;
}

// Null where the block belongs elsewhere, or the arena has no room.
void* CachingAllocator::allocate_from_arena(std::size_t bytes) {
  if (!arena_ || bytes < kArenaBlock) return nullptr;
  const std::size_t reach = arena_->reach();
  const std::size_t offset = arena_->allocate(bytes);
  if (offset == Arena::kNone) return nullptr;
  if (arena_->reach() > reach) {
    stats_.reserved += static_cast<std::int64_t>(arena_->reach() - reach);
    ++stats_.device_allocations;
  }
  stats_.in_use += static_cast<std::int64_t>(arena_->size_at(offset));
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
  return arena_begin_ + offset;
}

bool CachingAllocator::release_to_arena(void* memory) noexcept {
  auto* const place = static_cast<char*>(memory);
  if (!arena_ || place < arena_begin_ || place >= arena_begin_ + arena_bytes_) return false;
  const auto offset = static_cast<std::size_t>(place - arena_begin_);
  stats_.in_use -= static_cast<std::int64_t>(arena_->size_at(offset));
  arena_->release(offset);
  return true;
}

void* CachingAllocator::take(FreeBlocks& blocks, std::size_t block) {
  const auto it = blocks.find(block);
  if (it == blocks.end() || it->second.empty()) return nullptr;
  void* memory = it->second.back();
  it->second.pop_back();
  return memory;
}

void* CachingAllocator::allocate_from_device(std::size_t block) {
  void* memory = nullptr;
  kernels::Status status = api_.allocate(device_.index, block, &memory);
  if (!status.ok()) {
    release_cached_locked();
    status = api_.allocate(device_.index, block, &memory);
  }
  if (!status.ok())
    throw OutOfMemory("out of memory on device '" + to_string(device_) + "': " + std::to_string(block >> 20) +
                      " MiB wanted, " + std::to_string(stats_.in_use >> 20) + " MiB in use (" +
                      status.message() + "); use a smaller --batch-size or --image-size");
  stats_.reserved += static_cast<std::int64_t>(block);
  ++stats_.device_allocations;
  return memory;
}

void CachingAllocator::release(void* memory) noexcept {
  const std::lock_guard lock(mutex_);
  if (release_to_arena(memory)) return;
  const auto it = live_.find(memory);
  if (it == live_.end()) return;
  const Block block = it->second;
  live_.erase(it);
  stats_.in_use -= static_cast<std::int64_t>(block.size);
  if (const auto pool = pools_.find(block.pool); pool != pools_.end()) {
    pool->second[block.size].push_back(memory);
  } else {
    free_[block.size].push_back(memory);
    if (direct_) release_cached_locked();
  }
}

int CachingAllocator::begin_pool() {
  const std::lock_guard lock(mutex_);
  if (open_pool_) throw Error("device '" + to_string(device_) + "': a graph is being captured already");
  open_pool_ = ++last_pool_;
  pools_[open_pool_];
  return open_pool_;
}

void CachingAllocator::end_pool() {
  const std::lock_guard lock(mutex_);
  open_pool_ = 0;
}

void CachingAllocator::release_pool(int pool) noexcept {
  const std::lock_guard lock(mutex_);
  const auto it = pools_.find(pool);
  if (it == pools_.end()) return;
  for (auto& [block, list] : it->second)
    for (void* memory : list) free_[block].push_back(memory);
  pools_.erase(it);
  if (direct_) release_cached_locked();
}

void CachingAllocator::release_cached() {
  const std::lock_guard lock(mutex_);
  release_cached_locked();
}

void CachingAllocator::release_cached_locked() {
  for (auto& [block, list] : free_) {
    for (void* memory : list) {
      stats_.reserved -= static_cast<std::int64_t>(block);
      (void)api_.release(device_.index, memory);
    }
  }
  free_.clear();
  if (!arena_) return;
  const std::size_t reach = arena_->reach();
  for (const auto& [offset, size] : arena_->gaps())
    if (offset < reach) api_.discard(device_.index, arena_begin_ + offset, std::min(size, reach - offset));
  arena_->lower_reach();
  stats_.reserved -= static_cast<std::int64_t>(reach - arena_->reach());
}

MemoryStats CachingAllocator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard lock(mutex_);
  stats_.peak_in_use = stats_.in_use;
}

}  // namespace cairn
