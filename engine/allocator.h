#pragma once
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/device.h"

namespace cairn {

/// Caches freed blocks by size class, so that a warmed-up step allocates nothing. All work of a device goes
/// through one queue, so a block may be reused as soon as it is freed. Thread-safe. With
/// CAIRN_ALLOCATOR=direct in the environment (and under AddressSanitizer) every block is the device's own, so
/// that an overrun or a use after free is seen by the tools.
class CachingAllocator {
 public:
  explicit CachingAllocator(Device device);
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// Never null. 256-byte aligned, at least `bytes` long, contents undefined. Throws Error where the device
  /// has no room even after the cache was given back.
  void* allocate(std::size_t bytes);
  void release(void* memory) noexcept;
  void release_cached();
  MemoryStats stats() const;
  void reset_peak();

 private:
  void* allocate_from_device(std::size_t block);
  void release_cached_locked();

  Device device_;
  const kernels::DeviceApi& api_;
  bool direct_;
  mutable std::mutex mutex_;
  std::map<std::size_t, std::vector<void*>> free_;  // block size -> blocks
  std::unordered_map<void*, std::size_t> live_;     // block -> block size
  MemoryStats stats_;
};

CachingAllocator& allocator(Device device);

}  // namespace cairn
