// Training on a CUDA device as `cairn train` does it, step by step: images a second, losses, and an epoch
// over images that stay on the device. Prints one JSON object. bench/gpu/speed_torch.py does the same in
// PyTorch, from the weights and images that --write leaves. On the emulated device nothing is timed.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/console.h"
#include "apps/options.h"
#include "apps/precision.h"
#include "apps/train_step.h"
#include "bench/models/measured.h"
#include "engine/io/safetensors.h"
#include "engine/io/weights.h"
#include "engine/optim/parameters.h"
#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/philox.h"
#include "kernels/timer.h"
#include "models/registry.h"

namespace cairn {
namespace {

using bench::Clock;
using bench::seconds_since;

constexpr std::int64_t kClasses = 7;
constexpr float kLr = 0.01f;

struct Options {
  std::string device = "cuda", model = "resnet18", precision = "bf16", init, write;
  std::int64_t batch_size = 256;
  int image_size = 224, steps = 60, warmup = 8, epochs = 3;
  std::int64_t resident = 0;
  double dropout = -1;
};

/// Noise in place of photos, in memory that the device copies from; the same every time.
class Images {
 public:
  Images(std::int64_t count, int size, Device device)
      : count_(count), bytes_(static_cast<std::size_t>(size) * static_cast<std::size_t>(size) * 3) {
    pixels_ = app::pinned_memory(device, bytes_ * static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < bytes_ * static_cast<std::size_t>(count); i += 16) {
      const Philox4x32 words = philox(1, 0, i / 16);
      std::memcpy(pixels_.get() + i, &words,
                  std::min<std::size_t>(16, bytes_ * static_cast<std::size_t>(count) - i));
    }
  }
  /// `size` images from the first on, going round.
  data::Batch batch(std::int64_t first, std::int64_t size) const {
    data::Batch b;
    b.size = size;
    first %= count_;
    if (first + size > count_) first = 0;
    b.images = pixels_.get() + static_cast<std::size_t>(first) * bytes_;
    b.hold = pixels_;
    for (std::int64_t i = first; i < first + size; ++i) {
      b.labels.push_back(static_cast<std::int32_t>(i * 5 % kClasses));
      b.indices.push_back(i);
      b.positions.push_back(i);
    }
    return b;
  }
  const std::uint8_t* data() const { return pixels_.get(); }
  std::size_t bytes() const { return bytes_ * static_cast<std::size_t>(count_); }

 private:
  std::int64_t count_;
  std::size_t bytes_;
  std::shared_ptr<std::uint8_t[]> pixels_;
};

/// A model in training, as apps/learner.cpp puts it together.
struct Trained {
  Trained(const Options& o, Device device, app::Console& console, app::ResidentImages* resident) {
    models::ModelOptions options{.classes = kClasses, .image_size = o.image_size, .seed = 0, .dropout = {}};
    if (o.dropout >= 0) options.dropout = static_cast<float>(o.dropout);
    model = models::make_model(o.model, options);
    if (!o.init.empty()) static_cast<void>(io::load_weights(*model, o.init));
    if (!o.write.empty()) io::save_weights(*model, o.write + "/weights.safetensors");
    model->to(device);
    step_counter = zeros({1}, DType::i64, device);
    model->set_random_state({.seed = 0, .step = step_counter});
    parameters = std::make_unique<optim::FlatParameters>(*model);
    optimizer = optim::make_optimizer(*parameters, {.kind = optim::OptimizerKind::sgd, .momentum = 0.9f});
    step = std::make_unique<app::TrainStep>(
        *model, *optimizer, step_counter,
        app::TrainStepOptions{
            .precision = app::precision_dtype(app::settled_precision(o.precision, device), device),
            .tf32 = o.precision == "tf32",
            .batch_size = o.batch_size,
            .image_size = o.image_size,
            .normalization = {},
            .loss = {},
            .resident = resident},
        device, console);
  }
  std::unique_ptr<nn::Module> model;
  Tensor step_counter;
  std::unique_ptr<optim::FlatParameters> parameters;
  std::unique_ptr<optim::Optimizer> optimizer;
  std::unique_ptr<app::TrainStep> step;
};

void write_inputs(const Options& o, const Images& images, const data::Batch& batch) {
  const auto* labels = reinterpret_cast<const std::uint8_t*>(batch.labels.data());
  io::write_safetensors(
      o.write + "/batch.safetensors",
      {{.name = "labels",
        .dtype = DType::i32,
        .shape = {batch.size},
        .bytes = [&] { return std::vector(labels, labels + batch.labels.size() * sizeof(std::int32_t)); }},
       {.name = "images",
        .dtype = DType::u8,
        .shape = {batch.size, o.image_size, o.image_size, 3},
        .bytes = [&] { return std::vector(images.data(), images.data() + images.bytes()); }}});
}

/// Events of a queue with their times; where the device has no clock of its own, nothing.
class Marks {
 public:
  explicit Marks(Device device)
      : queue_(compute_queue(device)),
        api_(*kernels::device_api(device.type)),
        timer_(kernels::timer_api(device.type)) {}
  ~Marks() {
    for (void* event : events_) static_cast<void>(api_.destroy_event(event));
  }
  Marks(const Marks&) = delete;
  Marks& operator=(const Marks&) = delete;

  void set() {
    if (!timer_) return;
    void* event = nullptr;
    check(timer_->create_event(queue_.device.index, event));
    events_.push_back(event);
    check(api_.record_event(queue_, event));
  }
  /// Seconds between neighbours; waits for them.
  std::vector<double> seconds() const {
    check(api_.synchronize(queue_));
    std::vector<double> all;
    for (std::size_t i = 1; i < events_.size(); ++i) {
      double us = 0;
      check(timer_->elapsed_us(events_[i - 1], events_[i], us));
      all.push_back(us / 1e6);
    }
    return all;
  }

 private:
  const kernels::Queue& queue_;
  const kernels::DeviceApi& api_;
  const kernels::TimerApi* timer_;
  std::vector<void*> events_;
};

/// Keeps the device busy for some milliseconds, in which the host gets far ahead of it.
void hold_up(Device device) {
  const bool emulated = device.type == DeviceType::cuda_emu;
  const Tensor block = empty({emulated ? 1 << 10 : 64 << 20}, DType::u8, device);
  const kernels::DeviceApi& api = *kernels::device_api(device.type);
  for (int i = 0; i < (emulated ? 2 : 400); ++i)
    check(api.fill_zero(block.queue(), block.inplace().data, static_cast<std::size_t>(block.numel())));
}

nlohmann::json steps(const Options& o, Device device, app::Console& console) {
  const Images images(o.batch_size, o.image_size, device);
  const data::Batch batch = images.batch(0, o.batch_size);
  Trained t(o, device, console, nullptr);
  if (!o.write.empty()) write_inputs(o, images, batch);
  std::vector<double> losses;
  const int warmup = std::max(o.warmup, 5);  // the graph is captured in the fourth step
  for (int i = 0; i < warmup; ++i) losses.push_back(t.step->run(batch, kLr).item());
  Marks marks(device);
  const Clock::time_point begin = Clock::now();
  marks.set();
  for (int i = 0; i < o.steps; ++i) {
    static_cast<void>(t.step->run(batch, kLr));
    marks.set();
  }
  const std::vector<double> times = marks.seconds();
  const double wall = seconds_since(begin), images_n = static_cast<double>(o.batch_size);
  nlohmann::json result = {{"losses", losses},
                           {"peak_memory_mb", memory_stats(device).peak_in_use >> 20},
                           {"last_loss", t.step->run(batch, kLr).item()}};
  if (device.type == DeviceType::cuda_emu) return result;
  result["images_per_s"] = images_n * o.steps / wall;
  result["images_per_s_median"] = images_n / bench::median(times);
  result["images_per_s_best"] = images_n / *std::ranges::min_element(times);
  return result;
}

/// Epochs over images that stay on the device. The device's own time for an epoch's steps is taken with all
/// of them queued beforehand; what an epoch takes beyond it, the device was idle.
nlohmann::json epochs(const Options& o, Device device, app::Console& console) {
  const Images images(o.resident, o.image_size, device);
  std::vector<std::int64_t> items(static_cast<std::size_t>(o.resident));
  std::iota(items.begin(), items.end(), 0);
  app::ResidentImages resident(device, items, o.image_size);
  Trained t(o, device, console, &resident);
  const std::int64_t count = o.resident / o.batch_size;
  if (count < 1) throw InputError("--resident holds less than one batch");
  std::vector<data::Batch> batches;
  for (std::int64_t b = 0; b < count; ++b) batches.push_back(images.batch(b * o.batch_size, o.batch_size));
  double loss = 0;
  const auto epoch = [&] {
    Tensor last;
    for (const data::Batch& b : batches) last = t.step->run(b, kLr);
    return last;
  };
  for (int i = 0; i < 5; ++i) loss = epoch().item();  // uploads; captures the graph
  std::vector<double> walls;
  for (int i = 0; i < o.epochs; ++i) {
    const Clock::time_point begin = Clock::now();
    loss = epoch().item();
    walls.push_back(seconds_since(begin));
  }
  Marks marks(device);
  hold_up(device);
  marks.set();
  static_cast<void>(epoch());
  marks.set();
  const double busy = marks.seconds().at(0);
  nlohmann::json result = {{"resident_images", o.resident}, {"steps_an_epoch", count}, {"last_loss", loss}};
  if (device.type == DeviceType::cuda_emu) return result;
  const double wall = bench::median(walls);
  result["epoch_s"] = wall;
  result["device_busy_s"] = busy;
  result["idle_share"] = std::max(0.0, 1 - busy / wall);
  return result;
}

nlohmann::json run(const Options& o) {
  const Device device = parse_device(o.device);
  app::Console console(true, true);
  nlohmann::json result = o.resident > 0 ? epochs(o, device, console) : steps(o, device, console);
  result.update({{"engine", "cairn"},
                 {"device", kernels::device_api(device.type)->describe(device.index)},
                 {"timed", device.type != DeviceType::cuda_emu},
                 {"model", o.model},
                 {"precision", app::settled_precision(o.precision, device)},
                 {"batch_size", o.batch_size},
                 {"image_size", o.image_size}});
  return result;
}

}  // namespace
}  // namespace cairn

int main(int count, char** arguments) {
  cairn::Options o;
  CLI::App app("Speed and losses of training on a CUDA device, as JSON");
  app.add_option("--device", o.device)->capture_default_str();
  app.add_option("--model", o.model)->capture_default_str();
  app.add_option("--precision", o.precision)->capture_default_str();
  app.add_option("--batch-size", o.batch_size)->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--image-size", o.image_size)->check(CLI::Range(32, 2048))->capture_default_str();
  app.add_option("--steps", o.steps, "that are timed")->check(CLI::Range(1, 100000))->capture_default_str();
  app.add_option("--warmup", o.warmup, "steps before, whose losses are printed")->capture_default_str();
  app.add_option("--resident", o.resident, "time epochs over so many images on the device instead");
  app.add_option("--epochs", o.epochs)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--dropout", o.dropout, "in place of the model's rates");
  app.add_option("--init", o.init, "weights to begin from");
  app.add_option("--write", o.write, "folder for weights.safetensors and batch.safetensors");
  CLI11_PARSE(app, count, arguments);
  try {
    std::printf("%s\n", cairn::run(o).dump().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_speed: %s\n", error.what());
    return 1;
  }
}
