#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cairn::data {

/// A quarter of the memory that the machine (and the control group) has left, in bytes.
int64_t default_cache_bytes();

/// Decoded and resized images of one size, kept in memory: the first budget / image_bytes slots are kept, the
/// others decoded each time, so which ones never depends on timing. Safe from several threads.
class ImageCache {
 public:
  /// Memory is reserved now and used as images come.
  ImageCache(int64_t images, size_t image_bytes, int64_t budget_bytes);
  ~ImageCache();
  ImageCache(const ImageCache&) = delete;
  ImageCache& operator=(const ImageCache&) = delete;

  int64_t capacity() const { return capacity_; }  // slots that are kept
  /// The image in a slot, or null if it is not (yet) there.
  const uint8_t* find(int64_t slot) const;
  /// Where to write the image of this slot, or null if another thread is at it or the slot is not kept. The
  /// caller that got a pointer calls filled() or abandoned().
  uint8_t* begin_fill(int64_t slot);
  void filled(int64_t slot);
  void abandoned(int64_t slot);

 private:
  size_t image_bytes_;
  int64_t capacity_;
  uint8_t* memory_ = nullptr;
  std::unique_ptr<std::atomic<uint8_t>[]> states_;
};

}  // namespace cairn::data
