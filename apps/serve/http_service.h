#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/model_card.h"
#include "data/decode/decode.h"

namespace cairn::app {

struct ServiceOptions {
  std::string host = "127.0.0.1";
  int port = 8000;
  int workers = 0;  // images decoded at once; 0: one a core
  data::DecodeOptions decode;
  std::size_t max_body = 0;  // bytes
  std::size_t batch_size = 64;
  std::chrono::milliseconds batch_wait{};
  std::size_t queue = 0;
  std::size_t connections = 0;
  std::chrono::milliseconds idle{};
  std::chrono::milliseconds whole{};
};

/// pixels [n, S, S, 3] -> logits [n, classes].
using ForwardImages = std::function<std::vector<float>(std::span<const std::uint8_t> pixels, std::int64_t n)>;

/// Answers over HTTP (docs/serve.md) what a model says of images.
class HttpService {
 public:
  /// `card` must outlive the service. Listens at once; throws Error where it cannot.
  HttpService(const ServiceOptions& options, const ModelCard& card, ForwardImages forward);
  ~HttpService();

  int port() const;
  bool loopback() const;
  /// Serves until stop(), then answers what is under way. All forward passes run on the calling thread.
  void run();
  /// From any thread.
  void stop();
  std::uint64_t requests() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn::app
