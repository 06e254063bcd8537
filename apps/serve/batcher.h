#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "kernels/error.h"

namespace cairn::app {

/// A request that waited too long for its turn.
class OverdueError : public Error {
 public:
  using Error::Error;
};

struct BatcherOptions {
  std::size_t image_bytes = 0;       // of one image as the model takes it
  std::size_t batch_size = 64;       // images a forward pass, at most
  std::chrono::milliseconds wait{};  // for more images, from the first one of a batch on
  std::size_t places = 1;            // requests between admission and answer, at most
};

/// Gathers the images of many threads into batches and runs them through the model on one thread, the caller
/// of run(): so compute threads are not multiplied. Every member but run() may be called from any thread.
class Batcher {
 public:
  using Clock = std::chrono::steady_clock;
  /// pixels [n, image_bytes] -> logits [n, classes]; what it throws becomes the answer of the whole batch.
  using Forward = std::function<std::vector<float>(std::span<const std::uint8_t> pixels, std::int64_t n)>;

  Batcher(BatcherOptions options, Forward forward);

  /// A place in the bounded queue, held until it is destroyed, after the answer.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept;
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket();
    /// Hands in the image, once. The future holds its logits [classes], what the forward pass threw, or
    /// OverdueError when its turn came after the deadline.
    std::future<std::vector<float>> submit(std::vector<std::uint8_t> pixels, Clock::time_point deadline);

   private:
    friend class Batcher;
    explicit Ticket(Batcher* batcher) : batcher_(batcher) {}
    Batcher* batcher_;
    bool submitted_ = false;
  };
  /// Nothing when every place is taken.
  std::optional<Ticket> admit();

  /// Answers until stop() was called and nothing waits any more.
  void run();
  void stop();

  std::size_t places_taken() const;
  /// Called after each forward pass, from run(), with its number of images.
  std::function<void(std::size_t images)> on_batch;

 private:
  struct Waiting {
    std::vector<std::uint8_t> pixels;
    Clock::time_point deadline;
    std::promise<std::vector<float>> answer;
  };
  void leave(bool submitted);
  std::vector<Waiting> next_batch();
  void answer(std::vector<Waiting> batch);

  const BatcherOptions options_;
  const Forward forward_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Waiting> waiting_;
  std::size_t taken_ = 0;   // places
  std::size_t coming_ = 0;  // of these, whose image is still to be handed in
  bool stopped_ = false;
};

}  // namespace cairn::app
