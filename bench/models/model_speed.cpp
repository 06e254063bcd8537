// Speed of a training or inference step of cairn on this machine; prints one JSON object. The input lies
// ready in memory as uint8 pixels, so that a step begins with the normalisation; bench/peers/speed_torch.py
// does the same job in PyTorch, whose input is normalised beforehand.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/models/measured.h"
#include "bench/models/step_options.h"
#include "engine/autograd.h"
#include "engine/device.h"
#include "engine/ops.h"
#include "engine/optim/optimizer.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/waiting.h"
#include "kernels/error.h"
#include "models/registry.h"

namespace cairn {
namespace {

using bench::Clock;
using bench::seconds_since;

struct Options {
  std::string model = "resnet18", precision = "fp32";
  std::int64_t batch_size = 32, classes = 7;
  int image_size = 224, steps = 6, warmup = 2, threads = 0;
  bool infer = false;
};

nlohmann::json measure(const Options& o, Clock::time_point start) {
  if (o.threads > 0) kernels::set_num_threads(o.threads);
  const DType precision = o.precision == "bf16" ? DType::bf16 : DType::f32;
  const bench::RandomBatch batch(o.batch_size, o.image_size, o.classes, Device());
  const auto model = models::make_model(o.model, {.classes = o.classes, .image_size = o.image_size});
  std::unique_ptr<optim::FlatParameters> parameters;
  std::unique_ptr<optim::Optimizer> optimizer;
  if (o.infer) {
    model->eval();
  } else {
    parameters = std::make_unique<optim::FlatParameters>(*model);
    optimizer = optim::make_optimizer(*parameters, {.kind = optim::OptimizerKind::sgd, .momentum = 0.9f});
  }
  const double ready = seconds_since(start);

  const auto step = [&] {
    if (o.infer) {
      const NoGrad no_grad;
      static_cast<void>((*model)(preprocess(batch.images, precision)).to_vector<float>());
      return;
    }
    optimizer->zero_grad();
    const Tensor loss = softmax_cross_entropy((*model)(preprocess(batch.images, precision)), batch.labels);
    loss.backward();
    optimizer->step(0.01f);
    static_cast<void>(loss.item());
  };
  step();
  const double first = seconds_since(start);
  for (int i = 0; i < o.warmup; ++i) step();
  std::vector<double> times;
  for (int i = 0; i < o.steps; ++i) {
    const Clock::time_point begin = Clock::now();
    step();
    times.push_back(seconds_since(begin));
  }
  const double images_n = static_cast<double>(o.batch_size);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {{"engine", "cairn"},
          {"model", o.model},
          {"mode", o.precision},
          {"infer", o.infer},
          {"batch_size", o.batch_size},
          {"threads", kernels::num_threads()},
          {"images_per_s_best", images_n / *std::min_element(times.begin(), times.end())},
          {"images_per_s_median", images_n / bench::median(times)},
          {"ready_s", ready},
          {"first_step_s", first},
          {"peak_tensors_mb", static_cast<double>(memory_stats({}).peak_in_use) / (1 << 20)},
          {"held_mb", static_cast<double>(memory_stats({}).reserved) / (1 << 20)},
          {"peak_rss_mb", static_cast<double>(usage.ru_maxrss) / 1024}};
}

}  // namespace
}  // namespace cairn

int main(int count, char** arguments) {
  cairn::kernels::adopt_short_waits(arguments);
  const auto start = std::chrono::steady_clock::now();
  cairn::Options o;
  CLI::App app("Speed of a training or inference step, as JSON");
  app.add_option("--model", o.model)->capture_default_str();
  cairn::bench::add_step_options(app, o);
  app.add_option("--warmup", o.warmup)->check(CLI::Range(0, 1000))->capture_default_str();
  app.add_option("--threads", o.threads, "0: all cores")->check(CLI::Range(0, 4096))->capture_default_str();
  app.add_flag("--infer", o.infer, "forward only, without gradients");
  CLI11_PARSE(app, count, arguments);
  try {
    std::printf("%s\n", cairn::measure(o, start).dump().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "model_speed: %s\n", error.what());
    return 1;
  }
}
