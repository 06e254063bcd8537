#include "apps/inspect/speed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>

#include "apps/precision.h"
#include "apps/prediction.h"
#include "data/loader.h"
#include "data/parallel.h"
#include "data/resize.h"
#include "engine/device.h"
#include "engine/ops.h"
#include "engine/optim/optimizer.h"
#include "kernels/error.h"
#include "models/registry.h"

namespace cairn::app {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kSample = 256;   // images, spread over the set
constexpr double kStepSeconds = 0.3;    // for each single step
constexpr double kTrainingSeconds = 4;  // for the model
constexpr std::int64_t kTrainingSteps = 20;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Calls work(i) with i = 0, 1, ... (modulo n) for a while; calls a second.
double rate_of(std::int64_t n, const std::function<void(std::int64_t)>& work) {
  const Clock::time_point begin = Clock::now();
  std::int64_t done = 0;
  do {
    work(done++ % n);
  } while (seconds_since(begin) < kStepSeconds);
  return static_cast<double>(done) / seconds_since(begin);
}

std::vector<std::int64_t> sample_of(const data::Dataset& dataset) {
  const auto n = static_cast<std::int64_t>(dataset.items.size());
  std::vector<std::int64_t> items;
  for (std::int64_t i = 0; i < std::min(n, kSample); ++i) items.push_back(n * i / std::min(n, kSample));
  return items;
}

// What one thread does with an image, step by step.
std::vector<SpeedReport::Step> measure_steps(const data::Dataset& dataset,
                                             const std::vector<std::int64_t>& items, const SpeedOptions& o) {
  const auto n = static_cast<std::int64_t>(items.size());
  const int source_size = data::augment_source_size(o.augment, o.image_size);
  std::vector<SpeedReport::Step> steps;
  std::vector<std::vector<std::uint8_t>> files(n);
  const auto measure = [&](const std::string& name, const std::function<void(std::int64_t)>& work) {
    steps.push_back({name, rate_of(n, work)});
  };
  measure("read the file (from the system's cache)",
          [&](std::int64_t i) { files[i] = dataset.read_bytes(dataset.items[items[i]]); });
  for (std::int64_t i = 0; i < n; ++i) files[i] = dataset.read_bytes(dataset.items[items[i]]);
  std::vector<data::Image> images(n);
  data::DecodeOptions decode;
  decode.max_pixels = o.max_pixels;
  const auto decode_it = [&](std::int64_t i) {
    images[i] = data::decode_image(files[i], decode, dataset.items[items[i]].path);
  };
  measure("decode, exact", decode_it);
  decode.mode = data::DecodeMode::fast;
  decode.target_size = source_size;
  measure("decode, fast", decode_it);
  for (std::int64_t i = 0; i < n; ++i) decode_it(i);
  std::vector<std::uint8_t> source(std::size_t{3} * source_size * source_size);
  measure("resize", [&](std::int64_t i) {
    data::resize_image(images[i], data::ResizeMode::stretch, source_size, source.data());
  });
  std::vector<std::uint8_t> out(std::size_t{3} * o.image_size * o.image_size);
  if (o.augment != data::Augment::none)
    measure("augment, " + std::string(data::augment_name(o.augment)), [&](std::int64_t i) {
      data::augment_image(o.augment, source.data(), out.data(), o.image_size, {0, 0, i});
    });
  // From one of many cached images, so that the source is not in the processor's cache.
  std::vector<std::uint8_t> cached(out.size() * kSample);
  measure("copy a cached image", [&](std::int64_t i) {
    std::memcpy(out.data(), cached.data() + static_cast<std::size_t>(i) * out.size(), out.size());
  });
  return steps;
}

// Images a second that the loader delivers, in epochs from `first_epoch` on.
double loader_rate(data::Loader& loader, std::int64_t first_epoch) {
  const std::int64_t before = loader.images_delivered();
  const Clock::time_point begin = Clock::now();
  data::Batch batch;
  for (std::int64_t epoch = first_epoch; epoch == first_epoch || seconds_since(begin) < kStepSeconds;
       ++epoch) {
    loader.start_epoch(epoch);
    while (loader.next(batch)) {
    }
  }
  return static_cast<double>(loader.images_delivered() - before) / seconds_since(begin);
}

double training_rate(const SpeedOptions& o, std::int64_t classes, Device device, DType precision) {
  const auto model =
      models::make_model(o.model, {.classes = classes, .image_size = o.image_size, .dropout = {}});
  model->to(device);
  Tensor step_counter = zeros({1}, DType::i64, device);
  model->set_random_state({.seed = 0, .step = step_counter});
  optim::FlatParameters parameters(*model);
  const auto optimizer = optim::make_optimizer(parameters, {.kind = optim::OptimizerKind::sgd});
  const std::vector<std::uint8_t> pixels(std::size_t{3} * o.batch_size * o.image_size * o.image_size, 128);
  const Tensor labels = zeros({o.batch_size}, DType::i32, device);
  const auto step = [&] {
    const Tensor logits = forward_images(*model, pixels.data(), o.batch_size, o.image_size, precision,
                                         make_normalization({0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}), device);
    const Tensor loss = softmax_cross_entropy(logits, labels, {});
    optimizer->zero_grad();
    loss.backward();
    optimizer->step(1e-6f);
    synchronize(device);
  };
  step();  // chooses and packs
  const Clock::time_point begin = Clock::now();
  std::int64_t steps = 0;
  while (steps == 0 || (steps < kTrainingSteps && seconds_since(begin) < kTrainingSeconds)) {
    step();
    ++steps;
  }
  return static_cast<double>(steps * o.batch_size) / seconds_since(begin);
}

std::string whole(double rate) { return std::to_string(std::llround(rate)); }

std::string verdict_of(const SpeedReport& r, const std::string& model) {
  const std::string rates = model + " trains at most " + whole(r.training) + " images/s on " + r.device;
  if (r.first_epoch >= r.training)
    return rates + ", the loader brings " + whole(r.first_epoch) +
           ": the model limits training, not the data";
  if (r.cached_epochs >= r.training)
    return rates + ": the first epoch is limited by loading (" + whole(r.first_epoch) +
           " images/s), later ones by the model if the decoded images fit in memory; else loading limits "
           "them too";
  return rates + ", the loader brings " + whole(r.cached_epochs) +
         " even from memory: augmentation limits training (more cores, or --augment light or none)";
}

}  // namespace

SpeedReport measure_speed(const data::Dataset& dataset, const SpeedOptions& o, Console& console) {
  if (dataset.items.empty()) throw InputError("--speed needs an image that can be read");
  const std::vector<std::int64_t> items = sample_of(dataset);
  SpeedReport report;
  std::string precision = "auto";
  const Device device = open_device(o.common, console, &precision);
  console.say("measuring; other programs that run now slow it down");
  report.device = to_string(device);
  report.workers = data::resolve_workers(o.common.workers);
  report.steps = measure_steps(dataset, items, o);

  data::LoaderOptions options;
  options.items = items;
  options.sampler.batch_size = std::min<std::int64_t>(o.batch_size, static_cast<std::int64_t>(items.size()));
  options.image_size = o.image_size;
  options.decode.mode = data::DecodeMode::fast;
  options.decode.max_pixels = o.max_pixels;
  options.augment = o.augment;
  options.workers = o.common.workers;
  options.cache_bytes = 0;
  {
    data::Loader loader(dataset, options);
    report.first_epoch = loader_rate(loader, 0);
  }
  options.cache_bytes = -1;
  {
    data::Loader loader(dataset, options);
    loader_rate(loader, 0);
    report.cached_epochs = loader_rate(loader, 1000);
  }
  report.training = training_rate(o, static_cast<std::int64_t>(dataset.classes.size()), device,
                                  precision_dtype(precision, device));
  report.verdict = verdict_of(report, o.model);
  return report;
}

nlohmann::json speed_json(const SpeedReport& report) {
  nlohmann::json json = {{"workers", report.workers},
                         {"first_epoch_images_per_s", report.first_epoch},
                         {"cached_epochs_images_per_s", report.cached_epochs},
                         {"training_images_per_s", report.training},
                         {"device", report.device},
                         {"verdict", report.verdict},
                         {"steps", nlohmann::json::array()}};
  for (const SpeedReport::Step& step : report.steps)
    json["steps"].push_back({{"name", step.name}, {"images_per_s", step.images_per_s}});
  return json;
}

std::string speed_text(const SpeedReport& report) {
  std::string text = "speed, images a second\n one thread:\n";
  for (const SpeedReport::Step& step : report.steps)
    text += "  " + step.name + ": " + whole(step.images_per_s) + "\n";
  text += " loader, " + std::to_string(report.workers) +
          " threads:\n  first epoch: " + whole(report.first_epoch) +
          "\n  later epochs, from memory: " + whole(report.cached_epochs) + "\n";
  return text + report.verdict + "\n";
}

}  // namespace cairn::app
