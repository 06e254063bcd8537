#include "apps/serve/http_service.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "apps/prediction.h"
#include "apps/serve/batcher.h"
#include "apps/serve/http_server.h"
#include "apps/serve/page.h"
#include "apps/serve/service_metrics.h"
#include "data/resize.h"

namespace cairn::app {
namespace {

using httplib::Request;
using httplib::Response;
using nlohmann::json;

constexpr const char* kJson = "application/json";
// Memory for bodies in all, in largest bodies: many clients may send at once, and few send the largest.
constexpr std::size_t kBodiesAtOnce = 16;
// What a form or the parts of a body have around an image.
constexpr std::size_t kAround = 64 << 10;

/// The answer to a request that cannot be served.
struct Refusal {
  int status;
  std::string message;
};

struct Route {
  const char* path;
  const char* method;
};
constexpr Route kRoutes[] = {
    {"/", "GET"}, {"/predict", "POST"}, {"/model", "GET"}, {"/healthz", "GET"}, {"/metrics", "GET"}};

const Route* route_of(const std::string& path) {
  for (const Route& route : kRoutes)
    if (path == route.path) return &route;
  return nullptr;
}

bool method_fits(const Route& route, const std::string& method) {
  return method == route.method || (method == "HEAD" && std::string_view(route.method) == "GET");
}

const char* message_of(int status) {
  switch (status) {
    case 400:
      return "this is no request that can be understood";
    case 404:
      return "there is nothing at this address; POST an image to /predict";
    case 405:
      return "this address has another method: GET, or POST for /predict";
    case 408:
      return "the request took too long to arrive";
    case 413:
      return "the image is too large for this service";
    case 414:
      return "the address is too long";
    case 431:
      return "the request's headers are too large";
    case 503:
      return "the service is busy: try again later";
    default:
      return "the request failed";
  }
}

// An image's bytes, held within a budget that all requests share.
class Body {
 public:
  Body(std::atomic<std::size_t>& used, std::size_t budget) : used_(used), budget_(budget) {}
  ~Body() { clear(); }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  bool append(const char* data, std::size_t n) {
    if (used_.fetch_add(n) + n > budget_) {
      used_.fetch_sub(n);
      return false;
    }
    counted_ += n;
    bytes_.append(data, n);
    return true;
  }
  std::span<const std::uint8_t> bytes() const {
    return {reinterpret_cast<const std::uint8_t*>(bytes_.data()), bytes_.size()};
  }
  void clear() {
    used_.fetch_sub(std::exchange(counted_, 0));
    std::string().swap(bytes_);
  }

 private:
  std::atomic<std::size_t>& used_;
  const std::size_t budget_;
  std::size_t counted_ = 0;
  std::string bytes_;
};

// How many may do a thing at once. (Not std::counting_semaphore: that of g++ 12.2 loses wake-ups, GCC bug
// 104928.)
class Permits {
 public:
  explicit Permits(int n) : free_(n) {}

  bool take_until(Connection::Clock::time_point time) {
    std::unique_lock lock(mutex_);
    if (!returned_.wait_until(lock, time, [&] { return free_ > 0; })) return false;
    --free_;
    return true;
  }
  void give_back() {
    {
      const std::lock_guard lock(mutex_);
      ++free_;
    }
    returned_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable returned_;
  int free_;
};

std::size_t positive_number(const Request& request, const char* name, std::size_t otherwise) {
  if (!request.has_param(name)) return otherwise;
  const std::string text = request.get_param_value(name);
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value == 0)
    throw Refusal{400, std::string(name) + " is '" + text + "', expected a number, 1 or more"};
  return value;
}

bool flag(const Request& request, const char* name) {
  if (!request.has_param(name)) return false;
  const std::string text = request.get_param_value(name);
  if (text != "0" && text != "1")
    throw Refusal{400, std::string(name) + " is '" + text + "', expected 0 or 1"};
  return text == "1";
}

std::string fresh_nonce() {
  std::random_device random;
  std::string nonce;
  for (int i = 0; i < 32; ++i) nonce += "0123456789abcdef"[random() % 16];
  return nonce;
}

}  // namespace

struct HttpService::State {
  State(const ServiceOptions& o, const ModelCard& c, ForwardImages forward)
      : options(o),
        card(c),
        batcher({.image_bytes = static_cast<std::size_t>(c.image_size * c.image_size * 3),
                 .batch_size = o.batch_size,
                 .wait = o.batch_wait,
                 .places = o.queue},
                std::move(forward)),
        server({.connections = o.connections,
                .idle = o.idle,
                .whole = o.whole,
                .body_bytes = o.max_body + kAround}),
        decoders(o.workers > 0 ? o.workers
                               : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))) {}

  void set_up();
  void check_head(const Request& request, Response& response);
  void predict(const Request& request, Response& response, const httplib::ContentReader& read);
  std::string read_image(const Request& request, const httplib::ContentReader& read, Body& body);
  std::vector<std::uint8_t> pixels_of(const Body& body, const std::string& name);
  json model_json() const;
  void refuse(Response& response, const Refusal& refusal);

  const ServiceOptions options;
  const ModelCard& card;
  ServiceMetrics metrics;
  Batcher batcher;
  HttpServer server;
  Permits decoders;
  std::atomic<std::size_t> body_bytes = 0;
  int port = 0;
};

void HttpService::State::refuse(Response& response, const Refusal& refusal) {
  response.status = refusal.status;
  if (refusal.status == 503) response.set_header("Retry-After", "1");
  response.set_content(HttpServer::error_body(one_line(refusal.message)), kJson);
}

// Reads the one image of the request; returns the name it came under.
std::string HttpService::State::read_image(const Request& request, const httplib::ContentReader& read,
                                           Body& body) {
  int refused = 0;
  std::size_t size = 0;
  const auto receive = [&](const char* data, std::size_t n) {
    size += n;
    if (size > options.max_body)
      refused = 413;
    else if (!body.append(data, n))
      refused = 503;
    return refused == 0;
  };
  std::string name = "image";
  bool complete = false;
  int files = 0;
  if (request.is_multipart_form_data()) {
    complete = read(
        [&](const httplib::MultipartFormData& part) {
          if (++files == 1 && !part.filename.empty()) name = part.filename;
          return files == 1;
        },
        receive);
  } else {
    complete = read(receive);
  }
  if (!complete || refused != 0) server.current().give_up_rest();
  if (refused != 0) throw Refusal{refused, message_of(refused)};
  if (files > 1) throw Refusal{400, "one image a request: send several as several requests"};
  if (!complete) {
    const int failure = server.current().failure();
    if (failure > 400) throw Refusal{failure, message_of(failure)};
    throw Refusal{400, "the body ends too soon, or is not what its headers say"};
  }
  if (size == 0) throw Refusal{400, "the body is empty: send an image"};
  return name;
}

std::vector<std::uint8_t> HttpService::State::pixels_of(const Body& body, const std::string& name) {
  if (!decoders.take_until(server.current().deadline())) throw Refusal{503, message_of(503)};
  struct Release {
    Permits& permits;
    ~Release() { permits.give_back(); }
  } const release{decoders};
  const int side = static_cast<int>(card.image_size);
  data::DecodeOptions decode = options.decode;
  decode.target_size = side;
  const data::Image image = data::decode_image(body.bytes(), decode, name);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(side) * side * 3);
  data::resize_image(image, parse_resize(card.resize), side, pixels.data());
  return pixels;
}

void HttpService::State::predict(const Request& request, Response& response,
                                 const httplib::ContentReader& read) {
  try {
    Body body(body_bytes, kBodiesAtOnce * options.max_body);
    const std::string name = read_image(request, read, body);
    const std::size_t top = positive_number(request, "top", 3);
    const bool with_logits = flag(request, "logits");
    std::optional<Batcher::Ticket> ticket = batcher.admit();
    if (!ticket) throw Refusal{503, "too many requests wait already: try again later"};
    std::vector<std::uint8_t> pixels = pixels_of(body, name);
    body.clear();
    const std::vector<float> logits = ticket->submit(std::move(pixels), server.current().deadline()).get();
    const std::vector<double> probabilities = softmax_of(logits, card.temperature);
    json classes = json::array();
    for (const std::int32_t c : top_classes(logits, top))
      classes.push_back({{"class", card.classes[c]}, {"confidence", probabilities[c]}});
    json answer = {
        {"class", classes[0]["class"]}, {"confidence", classes[0]["confidence"]}, {"top", classes}};
    if (with_logits) answer["logits"] = logits;
    response.set_content(answer.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", kJson);
  } catch (const Refusal& refusal) {
    refuse(response, refusal);
  } catch (const OverdueError& error) {
    refuse(response, {503, error.what()});
  } catch (const InputError& error) {  // the image cannot be read
    refuse(response, {400, error.what()});
  } catch (const std::bad_alloc&) {
    refuse(response, {503, "the service is out of memory: send a smaller image, or try again later"});
  } catch (const std::exception& error) {
    refuse(response, {500, error.what()});
  }
}

// What can be refused before the body comes.
void HttpService::State::check_head(const Request& request, Response& response) {
  const std::string length = request.get_header_value("Content-Length");
  std::size_t bytes = 0;
  const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), bytes);
  const bool sensible = length.empty() || (error == std::errc() && end == length.data() + length.size());
  const Route* const route = route_of(request.path);
  if (!sensible && error != std::errc::result_out_of_range) {
    refuse(response, {400, "Content-Length is no number"});
  } else if (!route) {
    refuse(response, {404, message_of(404)});
  } else if (!method_fits(*route, request.method)) {
    response.set_header("Allow", route->method);
    refuse(response, {405, message_of(405)});
  } else if (!sensible || bytes > options.max_body + kAround) {
    refuse(response, {413, "the image has more than the " + std::to_string(options.max_body >> 20) +
                               " MB that this service takes"});
  } else if (request.method == "POST" && length.empty() && !request.has_header("Transfer-Encoding")) {
    refuse(response, {411, "the request does not say how long its body is"});
  } else if (request.has_header("Content-Encoding")) {
    // A few bytes may unpack to any number of them; images are compressed already.
    refuse(response, {415, "send the image as it is, without Content-Encoding"});
  } else {
    // Nothing is read behind the head of these: what a client sends there must not pass for a request.
    if (request.method != "POST" && (bytes > 0 || request.has_header("Transfer-Encoding")))
      server.current().give_up_rest();
    return;
  }
  if (bytes > 0 || !sensible || request.has_header("Transfer-Encoding")) server.current().give_up_rest();
}

json HttpService::State::model_json() const {
  return {{"model", card.model},
          {"classes", card.classes},
          {"image_size", card.image_size},
          {"max_body", options.max_body},
          {"version", CAIRN_VERSION}};
}

void HttpService::State::set_up() {
  using Routing = httplib::Server::HandlerResponse;
  batcher.on_batch = [this](std::size_t images) { metrics.add_batch(images); };
  server.on_open = [this] { metrics.connection_opened(); };
  server.on_close = [this] { metrics.connection_closed(); };
  server.on_refusal = [this](int status) { metrics.count_request("other", status); };
  server.set_default_headers({{"X-Content-Type-Options", "nosniff"},
                              {"Cache-Control", "no-store"},
                              {"Referrer-Policy", "no-referrer"},
                              {"Cross-Origin-Resource-Policy", "same-origin"}});
  server.set_pre_routing_handler([this](const Request& request, Response& response) {
    check_head(request, response);
    return response.status == -1 ? Routing::Unhandled : Routing::Handled;
  });
  server.set_expect_100_continue_handler([this](const Request& request, Response& response) {
    check_head(request, response);
    return response.status == -1 ? 100 : response.status;
  });
  server.set_error_handler([this](const Request&, Response& response) {
    if (server.current().failure() > 400) response.status = server.current().failure();
    if (response.body.empty()) refuse(response, {response.status, message_of(response.status)});
  });
  server.set_post_routing_handler([this](const Request&, Response& response) {
    if ((server.stopping() || !server.current().usable()) && !response.has_header("Connection"))
      response.set_header("Connection", "close");
  });
  server.set_exception_handler([this](const Request&, Response& response, const std::exception_ptr&) {
    refuse(response, {500, message_of(500)});
  });
  server.set_logger([this](const Request& request, const Response& response) {
    metrics.count_request(route_of(request.path) ? request.path : "other", response.status);
    if (request.path == "/predict") metrics.add_latency(server.current().seconds());
  });

  server.Get("/", [](const Request&, Response& response) {
    const std::string nonce = fresh_nonce();
    response.set_header("Content-Security-Policy", serve_page_policy(nonce));
    response.set_content(serve_page(nonce), "text/html; charset=utf-8");
  });
  server.Get("/model", [this](const Request&, Response& response) {
    response.set_content(model_json().dump(-1, ' ', false, json::error_handler_t::replace) + "\n", kJson);
  });
  server.Get("/healthz", [this](const Request&, Response& response) {
    if (server.stopping())
      refuse(response, {503, "the service is about to end"});
    else
      response.set_content("{\"status\":\"ok\"}\n", kJson);
  });
  server.Get("/metrics", [this](const Request&, Response& response) {
    response.set_content(metrics.text(batcher.places_taken(), options.queue),
                         "text/plain; version=0.0.4; charset=utf-8");
  });
  server.Post("/predict", [this](const Request& request, Response& response,
                                 const httplib::ContentReader& read) { predict(request, response, read); });
  port = server.listen_on(options.host, options.port);
}

HttpService::HttpService(const ServiceOptions& options, const ModelCard& card, ForwardImages forward)
    : state_(std::make_unique<State>(options, card, std::move(forward))) {
  state_->set_up();
}

HttpService::~HttpService() = default;

int HttpService::port() const { return state_->port; }
bool HttpService::loopback() const { return state_->server.loopback(); }
std::uint64_t HttpService::requests() const { return state_->metrics.requests(); }

void HttpService::run() {
  std::thread network([this] {
    state_->server.serve();
    state_->batcher.stop();  // only now: the requests that were under way have their answers
  });
  state_->batcher.run();
  network.join();
}

void HttpService::stop() { state_->server.stop(); }

}  // namespace cairn::app
