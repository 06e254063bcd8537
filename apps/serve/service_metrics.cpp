#include "apps/serve/service_metrics.h"

#include <algorithm>
#include <sstream>

namespace cairn::app {
namespace {

std::string number(double value) {
  std::ostringstream text;
  text.precision(12);
  text << value;
  return text.str();
}

void head(std::string& text, const std::string& name, const char* type, const std::string& help) {
  text += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

void single(std::string& text, const std::string& name, const char* type, const std::string& help,
            std::uint64_t value) {
  head(text, name, type, help);
  text += name + " " + std::to_string(value) + "\n";
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::add(double value) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<std::size_t>(bound - bounds_.begin())];
  sum_ += value;
}

void Histogram::write(std::string& text, const std::string& name, const std::string& help) const {
  head(text, name, "histogram", help);
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    count += counts_[i];
    const std::string bound = i < bounds_.size() ? number(bounds_[i]) : "+Inf";
    text += name + "_bucket{le=\"" + bound + "\"} " + std::to_string(count) + "\n";
  }
  text += name + "_sum " + number(sum_) + "\n" + name + "_count " + std::to_string(count) + "\n";
}

ServiceMetrics::ServiceMetrics()
    : latency_({0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}),
      batch_({1, 2, 4, 8, 16, 32, 64, 128, 256}) {}

void ServiceMetrics::count_request(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{path, status}];
}

void ServiceMetrics::add_latency(double seconds) {
  const std::lock_guard lock(mutex_);
  latency_.add(seconds);
}

void ServiceMetrics::add_batch(std::size_t images) {
  const std::lock_guard lock(mutex_);
  batch_.add(static_cast<double>(images));
  images_ += images;
}

void ServiceMetrics::connection_opened() {
  const std::lock_guard lock(mutex_);
  ++connections_;
}

void ServiceMetrics::connection_closed() {
  const std::lock_guard lock(mutex_);
  --connections_;
}

std::uint64_t ServiceMetrics::requests() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [key, count] : requests_) sum += count;
  return sum;
}

std::string ServiceMetrics::text(std::size_t queue_length, std::size_t queue_limit) const {
  const std::lock_guard lock(mutex_);
  std::string text;
  head(text, "cairn_requests_total", "counter", "Answers sent, by path and status.");
  for (const auto& [key, count] : requests_)
    text += "cairn_requests_total{path=\"" + key.first + "\",code=\"" + std::to_string(key.second) + "\"} " +
            std::to_string(count) + "\n";
  latency_.write(text, "cairn_request_seconds",
                 "From the first byte of POST /predict to the end of its answer.");
  batch_.write(text, "cairn_batch_images", "Images of a forward pass.");
  single(text, "cairn_images_total", "counter", "Images that went through the model.", images_);
  single(text, "cairn_queue_length", "gauge", "Images that are being decoded, wait or are computed.",
         queue_length);
  single(text, "cairn_queue_limit", "gauge", "Images in the queue from which on requests are refused.",
         queue_limit);
  single(text, "cairn_connections", "gauge", "Open connections.", connections_);
  return text;
}

}  // namespace cairn::app
