#include "apps/resident_images.h"

#include <cstdint>
#include <unordered_set>

#include "kernels/device.h"
#include "kernels/error.h"

namespace cairn::app {

std::unique_ptr<ResidentImages> ResidentImages::make(Device device, const std::vector<std::int64_t>& items,
                                                     std::int64_t image_size) {
  compute_queue(device);  // loads the backend
  const kernels::DeviceApi& api = *kernels::device_api(device.type);
  if (!api.free_memory) return nullptr;
  std::size_t free_bytes = 0;
  check(api.free_memory(device.index, free_bytes));
  // The rest is for activations, which take more than the images that they are made of.
  constexpr std::size_t kShare = 4;
  const std::size_t images = std::unordered_set<std::int64_t>(items.begin(), items.end()).size();
  const auto image_bytes = static_cast<std::size_t>(image_size * image_size * 3);
  if (images > INT32_MAX || images > free_bytes / kShare / image_bytes) return nullptr;
  return std::make_unique<ResidentImages>(device, items, image_size);
}

ResidentImages::ResidentImages(Device device, const std::vector<std::int64_t>& items,
                               std::int64_t image_size) {
  for (const std::int64_t item : items) places_.try_emplace(item, static_cast<std::int32_t>(places_.size()));
  const auto count = static_cast<std::int64_t>(places_.size());
  images_ = empty({count, image_size, image_size, 3}, DType::u8, device);
  held_ = std::make_unique<std::atomic<bool>[]>(places_.size());
}

std::int32_t ResidentImages::place(std::int64_t item) const {
  const auto it = places_.find(item);
  if (it == places_.end())
    throw Error("item " + std::to_string(item) + " is none of the images on the device");
  return it->second;
}

bool ResidentImages::holds(std::int64_t item) const {
  return held_[place(item)].load(std::memory_order_acquire);
}

std::vector<std::int32_t> ResidentImages::places(const data::Batch& batch, UploadQueue& uploads) {
  if (fresh_) uploads.follow_compute();
  fresh_ = false;
  const std::int64_t image_bytes = images_.size(1) * images_.size(2) * images_.size(3);
  std::vector<std::int32_t> places;
  bool copied = false;
  for (std::int64_t n = 0; n < batch.size; ++n) {
    const std::int32_t p = place(batch.indices[n]);
    places.push_back(p);
    if (held_[p].load(std::memory_order_relaxed)) continue;
    uploads.copy(static_cast<std::uint8_t*>(images_.inplace().data) + p * image_bytes,
                 batch.images + n * image_bytes, static_cast<std::size_t>(image_bytes));
    held_[p].store(true, std::memory_order_release);
    copied = true;
  }
  if (copied) uploads.publish(batch.hold);
  return places;
}

}  // namespace cairn::app
