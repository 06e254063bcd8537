#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "apps/upload_queue.h"

namespace cairn::app {

/// A small training set's pixels in the device's own memory. Each image goes up once, with the first batch
/// that shows it; a batch is then a list of places, and the device gathers it. For images that are the same
/// each time, i.e. without augmentation.
class ResidentImages {
 public:
  /// For the images of `items` (repeats allowed), [S,S,3] each. Null where the device computes in the host's
  /// memory, and where they would take more than a quarter of what the device has free.
  static std::unique_ptr<ResidentImages> make(Device device, const std::vector<std::int64_t>& items,
                                              std::int64_t image_size);
  ResidentImages(Device device, const std::vector<std::int64_t>& items, std::int64_t image_size);

  /// Whether a batch may leave the item's pixels out (LoaderOptions::without_pixels); from any thread.
  bool holds(std::int64_t item) const;
  /// [I,S,S,3] uint8
  const Tensor& images() const { return images_; }
  std::int64_t bytes() const { return images_.numel(); }
  /// Queues the upload of those images of the batch that are new here. Returns the place of each, [size], for
  /// what is queued on the compute queue from now on. Throws Error for an item that was not named.
  std::vector<std::int32_t> places(const data::Batch& batch, UploadQueue& uploads);

 private:
  std::int32_t place(std::int64_t item) const;

  std::unordered_map<std::int64_t, std::int32_t> places_;
  Tensor images_;
  std::unique_ptr<std::atomic<bool>[]> held_;
  bool fresh_ = true;  // the memory may still be in use by what is on the compute queue
};

}  // namespace cairn::app
