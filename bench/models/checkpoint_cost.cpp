// What saving a state every 50 steps costs a training: one JSON object. Runs of steps without and with a
// state written beside them stand in turns, so that both see the same machine; what the step thread itself
// waits for is timed apart.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/precision.h"
#include "bench/models/measured.h"
#include "engine/autograd.h"
#include "engine/device.h"
#include "engine/io/checkpoint.h"
#include "engine/ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "models/registry.h"

namespace cairn {
namespace {

using bench::Clock;
using bench::seconds_since;

struct Options {
  std::string model = "resnet18", optimizer = "adam", device = "auto", precision = "auto",
              file = "checkpoint_cost.state";
  std::int64_t batch_size = 32, classes = 7;
  int image_size = 224, threads = 0, rounds = 5, steps = 2, every = 50;
};

nlohmann::json measure(const Options& o) {
  if (o.threads > 0) kernels::set_num_threads(o.threads);
  const Device device = parse_device(o.device);
  const DType precision = app::precision_dtype(app::settled_precision(o.precision, device), device);
  const bench::RandomBatch batch(o.batch_size, o.image_size, o.classes, device);
  const auto model = models::make_model(o.model, {.classes = o.classes, .image_size = o.image_size});
  model->to(device);
  optim::FlatParameters parameters(*model);
  const auto optimizer = optim::make_optimizer(parameters, {.kind = optim::parse_optimizer(o.optimizer)});
  io::Checkpoint checkpoint(*model, *optimizer);

  const auto steps = [&] {  // seconds of o.steps steps
    synchronize(device);
    const Clock::time_point begin = Clock::now();
    for (int i = 0; i < o.steps; ++i) {
      optimizer->zero_grad();
      softmax_cross_entropy((*model)(preprocess(batch.images, precision)), batch.labels).backward();
      optimizer->step(1e-4f);
    }
    synchronize(device);
    return seconds_since(begin);
  };
  steps();
  std::vector<double> plain, saving, taking, writing;
  for (int round = 0; round < o.rounds; ++round) {
    plain.push_back(steps());
    const Clock::time_point begin = Clock::now();
    checkpoint.take();
    taking.push_back(seconds_since(begin));
    std::thread writer([&] {
      const Clock::time_point write = Clock::now();
      checkpoint.write(o.file, "{}");
      writing.push_back(seconds_since(write));
    });
    steps();
    writer.join();
    saving.push_back(seconds_since(begin));
  }
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(o.file));
  std::filesystem::remove(o.file);
  const double step = bench::median(plain) / o.steps;
  std::vector<double> extra;
  for (std::size_t i = 0; i < plain.size(); ++i) extra.push_back(saving[i] - plain[i]);
  const double between = step * o.every;
  return {{"model", o.model},
          {"device", to_string(device)},
          {"dtype", name_of(precision)},
          {"state_mb", static_cast<double>(bytes) / 1e6},
          {"step_s", step},
          {"take_s", bench::median(taking)},
          {"write_s", bench::median(writing)},
          {"extra_s", bench::median(extra)},
          {"every_steps", o.every},
          {"share", bench::median(extra) / between},
          {"share_waited", bench::median(taking) / between},
          {"share_if_all_were_waited_for", (bench::median(taking) + bench::median(writing)) / between}};
}

int run(int argc, char** argv) {
  Options o;
  CLI::App app{"What saving a state every 50 steps costs a training"};
  app.add_option("--model", o.model)->capture_default_str();
  app.add_option("--optimizer", o.optimizer)->capture_default_str();
  app.add_option("--device", o.device)->capture_default_str();
  app.add_option("--precision", o.precision, "as of cairn train")->capture_default_str();
  app.add_option("--file", o.file, "where the state is written")->capture_default_str();
  app.add_option("--batch-size", o.batch_size)->capture_default_str();
  app.add_option("--image-size", o.image_size)->capture_default_str();
  app.add_option("--threads", o.threads)->capture_default_str();
  app.add_option("--rounds", o.rounds)->capture_default_str();
  app.add_option("--steps", o.steps, "in a round: enough to outlast the writing")->capture_default_str();
  app.add_option("--every", o.every, "steps between two states")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  std::printf("%s\n", measure(o).dump().c_str());
  return 0;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  try {
    return cairn::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
