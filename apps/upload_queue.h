#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "data/loader.h"
#include "engine/tensor.h"

namespace cairn::app {

/// Host memory that the device can copy from by itself, for LoaderOptions::allocate. Throws Error.
std::shared_ptr<std::uint8_t[]> pinned_memory(Device device, std::size_t bytes);

/// A second queue of a device, on which data goes up while the compute queue is still at the step before. The
/// host waits only if it is kInFlight publications ahead.
class UploadQueue {
 public:
  static constexpr int kInFlight = 2;

  explicit UploadQueue(Device device);
  ~UploadQueue();
  UploadQueue(const UploadQueue&) = delete;
  UploadQueue& operator=(const UploadQueue&) = delete;

  Device device() const { return device_; }
  const kernels::Queue& queue() const { return queue_; }
  /// Copies queued from now on run behind all that is on the compute queue now: for memory from the caching
  /// allocator, which work on that queue may still be using.
  void follow_compute();
  /// From host memory that stays as it is until the copy is done: what publish() is told to hold, or memory
  /// that is not pinned, which is taken over at once.
  void copy(void* to, const void* from, std::size_t bytes);
  /// What is queued on the compute queue from now on finds the copies made. `source` is held until they are.
  void publish(std::shared_ptr<const void> source);

 private:
  struct Publication {
    void* event = nullptr;
    bool pending = false;
    std::shared_ptr<const void> source;
  };
  void let_go(Publication& publication, bool wait);

  Device device_;
  kernels::Queue queue_;
  void* compute_event_ = nullptr;
  std::array<Publication, kInFlight> publications_;
  std::size_t next_ = 0;
};

/// Batches of pixels on their way: while one is read on the device, the next is copied beside it.
class StagedPixels {
 public:
  /// For batches of up to [batch_size,S,S,3].
  StagedPixels(UploadQueue& uploads, std::int64_t batch_size, std::int64_t image_size);
  ~StagedPixels();
  StagedPixels(const StagedPixels&) = delete;
  StagedPixels& operator=(const StagedPixels&) = delete;

  /// Queues the batch's pixels: [size,S,S,3] uint8, for what is queued on the compute queue before
  /// consumed().
  Tensor stage(const data::Batch& batch);
  void consumed();

 private:
  struct Slot {
    Tensor pixels;
    void* read = nullptr;  // event behind the last reader
  };
  UploadQueue& uploads_;
  std::array<Slot, UploadQueue::kInFlight> slots_;
  std::size_t current_ = 0;
};

}  // namespace cairn::app
