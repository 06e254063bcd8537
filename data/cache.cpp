#include "data/cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <limits>

#include "data/available_memory.h"

namespace cairn::data {
namespace {

enum SlotState : uint8_t { kEmpty, kFilling, kReady };

}  // namespace

int64_t default_cache_bytes() {
  const int64_t available = available_memory();
  return available == std::numeric_limits<int64_t>::max() ? 0 : available / 4;
}

ImageCache::ImageCache(int64_t images, size_t image_bytes, int64_t budget_bytes)
    : image_bytes_(image_bytes),
      capacity_(std::clamp<int64_t>(budget_bytes / static_cast<int64_t>(image_bytes), 0, images)) {
  if (capacity_ > 0) {
    // Reserved without being committed: pages come as images are stored.
    void* memory = ::mmap(nullptr, static_cast<size_t>(capacity_) * image_bytes_, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      capacity_ = 0;  // a cache is a help, not a need
    } else {
      memory_ = static_cast<uint8_t*>(memory);
    }
  }
  states_ = std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(capacity_));
}

ImageCache::~ImageCache() {
  if (memory_) ::munmap(memory_, static_cast<size_t>(capacity_) * image_bytes_);
}

const uint8_t* ImageCache::find(int64_t slot) const {
  if (slot >= capacity_ || states_[slot].load(std::memory_order_acquire) != kReady) return nullptr;
  return memory_ + static_cast<size_t>(slot) * image_bytes_;
}

uint8_t* ImageCache::begin_fill(int64_t slot) {
  uint8_t empty = kEmpty;
  if (slot >= capacity_ || !states_[slot].compare_exchange_strong(empty, kFilling)) return nullptr;
  return memory_ + static_cast<size_t>(slot) * image_bytes_;
}

void ImageCache::filled(int64_t slot) { states_[slot].store(kReady, std::memory_order_release); }

void ImageCache::abandoned(int64_t slot) { states_[slot].store(kEmpty, std::memory_order_release); }

}  // namespace cairn::data
