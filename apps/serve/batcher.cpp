#include "apps/serve/batcher.h"

#include <algorithm>
#include <utility>

namespace cairn::app {

Batcher::Batcher(BatcherOptions options, Forward forward) : options_(options), forward_(std::move(forward)) {}

Batcher::Ticket::Ticket(Ticket&& other) noexcept
    : batcher_(std::exchange(other.batcher_, nullptr)), submitted_(other.submitted_) {}

Batcher::Ticket::~Ticket() {
  if (batcher_) batcher_->leave(submitted_);
}

std::future<std::vector<float>> Batcher::Ticket::submit(std::vector<std::uint8_t> pixels,
                                                        Clock::time_point deadline) {
  if (submitted_ || pixels.size() != batcher_->options_.image_bytes)
    throw Error("[batcher] one image of " + std::to_string(batcher_->options_.image_bytes) +
                " bytes a ticket, got " + std::to_string(pixels.size()));
  Waiting waiting{std::move(pixels), deadline, {}};
  std::future<std::vector<float>> answer = waiting.answer.get_future();
  {
    const std::lock_guard lock(batcher_->mutex_);
    batcher_->waiting_.push_back(std::move(waiting));
    --batcher_->coming_;
    submitted_ = true;
  }
  batcher_->changed_.notify_all();
  return answer;
}

std::optional<Batcher::Ticket> Batcher::admit() {
  const std::lock_guard lock(mutex_);
  if (taken_ >= options_.places) return std::nullopt;
  ++taken_;
  ++coming_;
  return Ticket(this);
}

void Batcher::leave(bool submitted) {
  {
    const std::lock_guard lock(mutex_);
    --taken_;
    if (!submitted) --coming_;
  }
  changed_.notify_all();  // the batch may have waited for this image
}

std::size_t Batcher::places_taken() const {
  const std::lock_guard lock(mutex_);
  return taken_;
}

void Batcher::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
}

// Empty once stopped.
std::vector<Batcher::Waiting> Batcher::next_batch() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stopped_ || !waiting_.empty(); });
  // A lone request is not kept waiting: nobody is on the way who could join it.
  changed_.wait_until(lock, Clock::now() + options_.wait,
                      [&] { return stopped_ || coming_ == 0 || waiting_.size() >= options_.batch_size; });
  std::vector<Waiting> batch;
  while (!waiting_.empty() && batch.size() < options_.batch_size) {
    batch.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  return batch;
}

void Batcher::answer(std::vector<Waiting> batch) {
  const Clock::time_point now = Clock::now();
  const auto overdue =
      std::stable_partition(batch.begin(), batch.end(), [&](const Waiting& w) { return w.deadline > now; });
  for (auto w = overdue; w != batch.end(); ++w)
    w->answer.set_exception(
        std::make_exception_ptr(OverdueError("the service is too busy: try again later")));
  batch.erase(overdue, batch.end());
  if (batch.empty()) return;
  const std::size_t n = batch.size();
  std::vector<float> logits;
  try {
    std::vector<std::uint8_t> pixels(n * options_.image_bytes);
    for (std::size_t i = 0; i < n; ++i)
      std::copy(batch[i].pixels.begin(), batch[i].pixels.end(),
                pixels.begin() + static_cast<std::ptrdiff_t>(i * options_.image_bytes));
    logits = forward_(pixels, static_cast<std::int64_t>(n));
  } catch (...) {
    for (Waiting& w : batch) w.answer.set_exception(std::current_exception());
    return;
  }
  if (on_batch) on_batch(n);
  const std::size_t classes = logits.size() / n;
  for (std::size_t i = 0; i < n; ++i) {
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(i * classes);
    batch[i].answer.set_value({begin, begin + static_cast<std::ptrdiff_t>(classes)});
  }
}

void Batcher::run() {
  for (;;) {
    std::vector<Waiting> batch = next_batch();
    if (batch.empty()) return;
    answer(std::move(batch));
  }
}

}  // namespace cairn::app
