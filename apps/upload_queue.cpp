#include "apps/upload_queue.h"

#include <utility>

#include "engine/device.h"
#include "kernels/device.h"

namespace cairn::app {
namespace {

const kernels::DeviceApi& api(Device device) { return *kernels::device_api(device.type); }

void* make_event(Device device) {
  void* event = nullptr;
  check(api(device).create_event(device.index, event));
  return event;
}

// What fails in a destructor has nobody left to tell.
void destroy_event(Device device, void* event) { static_cast<void>(api(device).destroy_event(event).ok()); }

}  // namespace

std::shared_ptr<std::uint8_t[]> pinned_memory(Device device, std::size_t bytes) {
  void* memory = nullptr;
  check(api(device).allocate_host(bytes, &memory));
  return {static_cast<std::uint8_t*>(memory),
          [device](std::uint8_t* p) { static_cast<void>(api(device).release_host(p).ok()); }};
}

UploadQueue::UploadQueue(Device device) : device_(device) {
  compute_queue(device);  // loads the backend
  check(api(device_).create_queue(device_.index, queue_));
  compute_event_ = make_event(device_);
  for (Publication& p : publications_) p.event = make_event(device_);
}

UploadQueue::~UploadQueue() {
  for (Publication& p : publications_) {
    // The source may be freed as soon as it is let go.
    if (p.pending) static_cast<void>(api(device_).host_wait_event(p.event).ok());
    destroy_event(device_, p.event);
  }
  destroy_event(device_, compute_event_);
  static_cast<void>(api(device_).destroy_queue(queue_).ok());
}

void UploadQueue::follow_compute() {
  check(api(device_).record_event(compute_queue(device_), compute_event_));
  check(api(device_).queue_wait_event(queue_, compute_event_));
}

void UploadQueue::copy(void* to, const void* from, std::size_t bytes) {
  check(api(device_).copy(queue_, to, from, bytes, kernels::CopyKind::host_to_device));
}

void UploadQueue::let_go(Publication& p, bool wait) {
  if (!p.pending) return;
  bool done = wait;
  if (wait)
    check(api(device_).host_wait_event(p.event));
  else
    check(api(device_).query_event(p.event, done));
  if (!done) return;
  p.pending = false;
  p.source = nullptr;
}

void UploadQueue::publish(std::shared_ptr<const void> source) {
  for (Publication& p : publications_) let_go(p, false);
  Publication& p = publications_[next_];
  next_ = (next_ + 1) % publications_.size();
  let_go(p, true);
  p.source = std::move(source);
  p.pending = true;
  check(api(device_).record_event(queue_, p.event));
  check(api(device_).queue_wait_event(compute_queue(device_), p.event));
}

StagedPixels::StagedPixels(UploadQueue& uploads, std::int64_t batch_size, std::int64_t image_size)
    : uploads_(uploads) {
  for (Slot& slot : slots_) {
    slot.pixels = empty({batch_size, image_size, image_size, 3}, DType::u8, uploads_.device());
    slot.read = make_event(uploads_.device());
  }
  uploads_.follow_compute();
}

StagedPixels::~StagedPixels() {
  for (Slot& slot : slots_) destroy_event(uploads_.device(), slot.read);
}

Tensor StagedPixels::stage(const data::Batch& batch) {
  const Slot& slot = slots_[current_];
  const Shape& whole = slot.pixels.shape();
  Tensor pixels = slot.pixels.alias({batch.size, whole[1], whole[2], whole[3]});
  check(api(uploads_.device()).queue_wait_event(uploads_.queue(), slot.read));
  uploads_.copy(pixels.inplace().data, batch.images, static_cast<std::size_t>(pixels.numel()));
  uploads_.publish(batch.hold);
  return pixels;
}

void StagedPixels::consumed() {
  const Device device = uploads_.device();
  check(api(device).record_event(compute_queue(device), slots_[current_].read));
  current_ = (current_ + 1) % slots_.size();
}

}  // namespace cairn::app
