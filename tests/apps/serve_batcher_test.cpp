// The parts of `cairn serve` that know no network: the batcher and what /metrics says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "apps/serve/batcher.h"
#include "apps/serve/service_metrics.h"
#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using namespace std::chrono_literals;

std::future<std::vector<float>> ask(Batcher& batcher, std::uint8_t value,
                                    std::chrono::milliseconds patience = 60s) {
  return std::async(std::launch::async, [&batcher, value, patience] {
    std::optional<Batcher::Ticket> ticket = batcher.admit();
    if (!ticket) throw Error("full");
    return ticket->submit({value}, Batcher::Clock::now() + patience).get();
  });
}

std::vector<float> doubled(std::span<const std::uint8_t> pixels, std::int64_t n) {
  std::vector<float> logits;
  for (std::int64_t i = 0; i < n; ++i) {
    logits.push_back(static_cast<float>(pixels[i]) * 2);
    logits.push_back(-1);
  }
  return logits;
}

TEST(Batcher, GivesEachRequestItsOwnAnswerWhateverTheBatches) {
  Batcher batcher({.image_bytes = 1, .batch_size = 8, .wait = 5ms, .places = 1000}, doubled);
  std::atomic<std::size_t> images = 0, largest = 0;
  batcher.on_batch = [&](std::size_t n) {
    images += n;
    largest = std::max(largest.load(), n);
  };
  std::thread computing([&] { batcher.run(); });
  std::vector<std::future<std::vector<float>>> answers;
  for (int i = 0; i < 100; ++i) answers.push_back(ask(batcher, static_cast<std::uint8_t>(i)));
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(answers[i].get(), (std::vector<float>{static_cast<float>(2 * i), -1.0F}));
  batcher.stop();
  computing.join();
  EXPECT_EQ(images, 100U);
  EXPECT_LE(largest, 8U);
  EXPECT_EQ(batcher.places_taken(), 0U);
}

TEST(Batcher, WaitsForThoseOnTheirWayAndForNobodyElse) {
  Batcher batcher({.image_bytes = 1, .batch_size = 8, .wait = 10s, .places = 10}, doubled);
  std::vector<std::size_t> batches;
  batcher.on_batch = [&](std::size_t n) { batches.push_back(n); };
  std::thread computing([&] { batcher.run(); });
  const auto start = Batcher::Clock::now();
  ask(batcher, 1).get();  // alone
  std::optional<Batcher::Ticket> late = batcher.admit(), never = batcher.admit();
  std::future<std::vector<float>> early = ask(batcher, 2);
  EXPECT_EQ(early.wait_for(50ms), std::future_status::timeout);
  std::future<std::vector<float>> second = late->submit({3}, start + 60s);
  EXPECT_EQ(early.wait_for(50ms), std::future_status::timeout);
  never.reset();  // its image could not be decoded
  EXPECT_EQ(early.get()[0], 4);
  EXPECT_EQ(second.get()[0], 6);
  EXPECT_LT(Batcher::Clock::now() - start, 9s);
  late.reset();
  batcher.stop();
  computing.join();
  EXPECT_EQ(batches, (std::vector<std::size_t>{1, 2}));
}

TEST(Batcher, RefusesWhatHasNoPlaceAndWhatIsOverdue) {
  std::promise<void> open;
  Batcher batcher(
      {.image_bytes = 1, .batch_size = 1, .wait = 0ms, .places = 2},
      [&, gate = open.get_future().share()](std::span<const std::uint8_t> pixels, std::int64_t n) {
        gate.wait();
        return doubled(pixels, n);
      });
  std::thread computing([&] { batcher.run(); });
  std::optional<Batcher::Ticket> first = batcher.admit(), second = batcher.admit();
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(batcher.admit());
  EXPECT_EQ(batcher.places_taken(), 2U);
  std::future<std::vector<float>> in_time = first->submit({5}, Batcher::Clock::now() + 60s);
  std::this_thread::sleep_for(20ms);  // the first one is in the forward pass by now
  std::future<std::vector<float>> too_late = second->submit({6}, Batcher::Clock::now());
  EXPECT_THROW(second->submit({6}, Batcher::Clock::now()), Error);
  open.set_value();
  EXPECT_EQ(in_time.get()[0], 10);
  EXPECT_THROW(too_late.get(), OverdueError);
  first.reset();
  EXPECT_TRUE(batcher.admit());
  second.reset();
  batcher.stop();
  computing.join();
}

TEST(Batcher, HandsAFailureOnAndGoesOn) {
  Batcher batcher({.image_bytes = 1, .batch_size = 4, .wait = 0ms, .places = 10},
                  [](std::span<const std::uint8_t> pixels, std::int64_t n) {
                    if (pixels[0] == 13) throw std::bad_alloc();
                    return doubled(pixels, n);
                  });
  std::thread computing([&] { batcher.run(); });
  EXPECT_THROW(ask(batcher, 13).get(), std::bad_alloc);
  EXPECT_EQ(ask(batcher, 7).get()[0], 14);
  batcher.stop();
  computing.join();
}

TEST(ServiceMetrics, AreInPrometheusFormat) {
  ServiceMetrics metrics;
  metrics.count_request("/predict", 200);
  metrics.count_request("/predict", 200);
  metrics.count_request("other", 404);
  for (const double seconds : {0.001, 0.003, 100.0}) metrics.add_latency(seconds);
  metrics.add_batch(3);
  const std::vector<std::string> lines = lines_of(metrics.text(4, 128));
  for (const char* line :
       {"cairn_requests_total{path=\"/predict\",code=\"200\"} 2",
        "cairn_requests_total{path=\"other\",code=\"404\"} 1", "cairn_request_seconds_bucket{le=\"0.001\"} 1",
        "cairn_request_seconds_bucket{le=\"0.0025\"} 1", "cairn_request_seconds_bucket{le=\"0.005\"} 2",
        "cairn_request_seconds_bucket{le=\"30\"} 2", "cairn_request_seconds_bucket{le=\"+Inf\"} 3",
        "cairn_request_seconds_count 3", "cairn_request_seconds_sum 100.004",
        "cairn_batch_images_bucket{le=\"4\"} 1", "cairn_images_total 3", "cairn_queue_length 4",
        "# TYPE cairn_request_seconds histogram"})
    EXPECT_THAT(lines, testing::Contains(line));
}

}  // namespace
}  // namespace cairn::app
