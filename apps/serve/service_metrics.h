#pragma once
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace cairn::app {

/// A histogram as Prometheus has it: counts of values up to each bound, their sum and number.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void add(double value);
  void write(std::string& text, const std::string& name, const std::string& help) const;

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_;  // [bounds + 1], not summed up
  double sum_ = 0;
};

/// What /metrics tells. Every member may be called from any thread.
class ServiceMetrics {
 public:
  ServiceMetrics();
  /// An answer was sent; `path` is one of the service's own, or "other".
  void count_request(const std::string& path, int status);
  /// From the first byte of a request to the end of its answer, for requests with an image.
  void add_latency(double seconds);
  void add_batch(std::size_t images);
  void connection_opened();
  void connection_closed();

  std::uint64_t requests() const;
  /// Prometheus' text format, version 0.0.4; the gauges that others know are handed in.
  std::string text(std::size_t queue_length, std::size_t queue_limit) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;
  Histogram latency_;
  Histogram batch_;
  std::uint64_t images_ = 0;
  std::uint64_t connections_ = 0;
};

}  // namespace cairn::app
