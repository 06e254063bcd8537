#include <malloc.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <thread>

#include "apps/commands/commands.h"
#include "apps/options.h"
#include "apps/prediction.h"
#include "engine/autograd.h"
#include "kernels/error.h"

#ifdef CAIRN_HAVE_HTTPLIB
#include "apps/serve/http_service.h"
#endif

namespace cairn::app {
namespace {

struct Options {
  CommonOptions common;
  ModelSource source;
  std::string host = "127.0.0.1";
  int port = 8000;
  std::string decode = "exact";
  std::int64_t max_pixels = 128'000'000;
  int max_body_mb = 20;
  int batch_size = static_cast<int>(kPredictBatch);
  int batch_wait_ms = 5;
  int queue = 128;
  int connections = 256;
  double read_timeout = 5;
  double timeout = 30;
};

#ifdef CAIRN_HAVE_HTTPLIB

/// Keeps SIGINT and SIGTERM from this thread and from all that are started later, for StopThread to take.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&signals_);
    for (const int s : {SIGINT, SIGTERM, kEnd}) sigaddset(&signals_, s);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~StopSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  int wait() const {
    int signal = 0;
    while (sigwait(&signals_, &signal) != 0) {
    }
    return signal;
  }
  static constexpr int kEnd = SIGUSR1;  // of the waiting itself

 private:
  sigset_t signals_{}, before_{};
};

/// Calls `stop` at the first signal; the second one ends the program at once.
class StopThread {
 public:
  StopThread(const StopSignals& signals, std::function<void()> stop)
      : thread_([&signals, stop = std::move(stop)] {
          for (bool first = true;; first = false) {
            const int signal = signals.wait();
            if (signal == StopSignals::kEnd) return;
            if (!first) _exit(128 + signal);
            stop();
          }
        }) {}
  ~StopThread() {
    pthread_kill(thread_.native_handle(), StopSignals::kEnd);
    thread_.join();
  }
  StopThread(const StopThread&) = delete;
  StopThread& operator=(const StopThread&) = delete;

 private:
  std::thread thread_;
};

// Decoded images come and go on many threads. Left alone, glibc keeps what each of them once had: 535 MB
// after half a minute of 64 clients, and rising.
void keep_little_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 256 << 10);  // a fixed one: large blocks go back to the system
  mallopt(M_ARENA_MAX, 4);
#endif
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(1000 * seconds));
}

int run(const Options& o) {
  const StopSignals signals;  // before OpenMP starts its threads
  keep_little_memory();
  Console console(o.common.quiet, o.common.json);
  const Device device = open_device(o.common, console);
  const FoundModel found = find_model(o.source);
  if (!found.note.empty()) console.say(found.note);
  const ModelCard& card = found.card;
  const auto model = load_model(found, device);
  const NoGrad no_grad;
  const ForwardImages forward = [&](std::span<const std::uint8_t> pixels, std::int64_t n) {
    return forward_images(*model, pixels.data(), n, card.image_size, DType::f32, card.normalization, device)
        .to_vector<float>();
  };

  ServiceOptions options;
  options.host = o.host;
  options.port = o.port;
  options.workers = o.common.workers;
  options.decode.mode = o.decode == "fast" ? data::DecodeMode::fast : data::DecodeMode::exact;
  options.decode.max_pixels = o.max_pixels;
  options.max_body = static_cast<std::size_t>(o.max_body_mb) << 20;
  options.batch_size = static_cast<std::size_t>(o.batch_size);
  options.batch_wait = std::chrono::milliseconds(o.batch_wait_ms);
  options.queue = static_cast<std::size_t>(o.queue);
  options.connections = static_cast<std::size_t>(o.connections);
  options.idle = milliseconds(o.read_timeout);
  options.whole = milliseconds(o.timeout);
  HttpService service(options, card, forward);
  // A model that cannot run says so now; and the first client does not wait for kernels to be made.
  forward(std::vector<std::uint8_t>(static_cast<std::size_t>(card.image_size * card.image_size * 3)), 1);
  const StopThread stop_thread(signals, [&] { service.stop(); });

  if (!service.loopback())
    console.warn("anyone who can reach this machine at " + o.host +
                 " can use this service: it has no passwords and no encryption");
  const std::string host = o.host.find(':') == std::string::npos ? o.host : "[" + o.host + "]";
  const std::string url = "http://" + host + ":" + std::to_string(service.port()) + "/";
  if (o.common.json)
    console.result(nlohmann::json{{"url", url}, {"host", o.host}, {"port", service.port()}}.dump());
  else
    console.result("serving " + card.model + ", " + std::to_string(card.classes.size()) + " classes: " + url +
                   " (Ctrl-C ends)");
  service.run();
  console.say("ended after " + std::to_string(service.requests()) + " answers");
  return 0;
}

#else

int run(const Options&) {
  throw InputError("this build serves nothing: sudo apt-get install libcpp-httplib-dev, then scripts/build");
}

#endif

}  // namespace

Command add_serve(CLI::App& app) {
  CLI::App* command = app.add_subcommand("serve", "answers over HTTP, with a page to drop a photo on");
  const auto o = std::make_shared<Options>();
  add_model_source(*command, o->source);
  const auto number = [&](const char* name, auto& value, const char* help, auto low, auto high) {
    command->add_option(name, value, help)->capture_default_str()->check(CLI::Range(low, high));
  };
  command->add_option("--host", o->host, "address to listen on; 0.0.0.0: every one of this machine")
      ->capture_default_str();
  number("--port", o->port, "0: any free one, which is printed", 0, 65535);
  command->add_option("--decode", o->decode, "exact, or fast: JPEGs may be decoded at a smaller scale")
      ->capture_default_str()
      ->check(CLI::IsMember({"exact", "fast"}));
  command->add_option("--max-pixels", o->max_pixels, "refuse larger images before decoding")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  number("--max-body-mb", o->max_body_mb, "refuse larger files", 1, 4096);
  number("--batch-size", o->batch_size, "images a forward pass, at most", 1, 4096);
  number("--batch-wait-ms", o->batch_wait_ms, "how long the first image of a batch waits for others", 0,
         60000);
  number("--queue", o->queue, "images decoded, waiting or computed at once; more are refused with 503", 1,
         1'000'000);
  number("--connections", o->connections, "open at once; more are refused with 503", 1, 10'000);
  number("--read-timeout", o->read_timeout, "seconds that a client may send nothing", 0.1, 3600.0);
  number("--timeout", o->timeout, "seconds for a request as a whole", 0.1, 3600.0);
  add_common(*command, o->common);
  command->footer("Example: cairn serve --run runs/first");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
