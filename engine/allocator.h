#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/arena.h"
#include "engine/device.h"

namespace cairn {

/// Keeps freed memory for the next block, so that a warmed-up step allocates nothing: large blocks stand in
/// an arena where the device has address space for one (DeviceApi::reserve; CAIRN_WITHOUT=arena: not), all
/// others are cached by size class. All work of a device goes through one queue, so a block may be reused as
/// soon as it is freed. Thread-safe. With CAIRN_ALLOCATOR=direct in the environment (and under
/// AddressSanitizer) every block is the device's own, so that an overrun or a use after free is seen by the
/// tools.
class CachingAllocator {
 public:
  explicit CachingAllocator(Device device);
  /// With another way to get and give back the device's memory.
  CachingAllocator(Device device, const kernels::DeviceApi& api);
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// Never null. 256-byte aligned, at least `bytes` long, contents undefined. Throws Error where the device
  /// has no room even after the cache was given back.
  void* allocate(std::size_t bytes);
  void release(void* memory) noexcept;
  void release_cached();

  /// Pools, for captured graphs, whose memory must be nobody else's between replays. From begin_pool() to
  /// end_pool() blocks are taken for the pool, from the cache first; those that are released, then or later,
  /// are kept in it until release_pool() hands them to the cache. One pool is open at a time, and what
  /// allocates on the device meanwhile is the graph's.
  int begin_pool();
  void end_pool();
  void release_pool(int pool) noexcept;
  MemoryStats stats() const;
  void reset_peak();

 private:
  using FreeBlocks = std::map<std::size_t, std::vector<void*>>;  // by block size
  struct Block {
    std::size_t size = 0;
    int pool = 0;  // 0: none
  };
  static void* take(FreeBlocks& blocks, std::size_t block);
  void* allocate_from_device(std::size_t block);
  void* allocate_from_arena(std::size_t bytes);
  bool release_to_arena(void* memory) noexcept;
  void release_cached_locked();

  Device device_;
  const kernels::DeviceApi& api_;
  bool direct_;
  mutable std::mutex mutex_;
  FreeBlocks free_;
  std::unordered_map<int, FreeBlocks> pools_;
  int open_pool_ = 0, last_pool_ = 0;
  std::unordered_map<void*, Block> live_;
  std::unique_ptr<Arena> arena_;  // null without
  char* arena_begin_ = nullptr;
  std::size_t arena_bytes_ = 0;
  MemoryStats stats_;
};

CachingAllocator& allocator(Device device);

/// The device has no room for what is asked of it.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

}  // namespace cairn
