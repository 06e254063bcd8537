// What bounds a step of each model, and how close it comes: a Markdown table a model and job. The machine's
// own bounds come first: arithmetic by a matrix product, memory by a copy. A kernel cannot be faster than its
// multiplications at the one rate or its bytes at the other; a convolution's are counted as the direct
// method's, which Winograd's undercuts.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>

#include "bench/models/measured.h"
#include "bench/models/step_options.h"
#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/optim/optimizer.h"
#include "engine/profiler.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/waiting.h"
#include "kernels/pointwise.h"
#include "models/registry.h"

namespace cairn {
namespace {

using bench::Clock;
using bench::seconds_since;

struct Options {
  std::vector<std::string> models{"resnet18", "model_cnn"};
  std::string precision = "fp32";
  std::int64_t batch_size = 32;
  int image_size = 224, steps = 3;
};

struct Machine {
  double flops = 0, bytes = 0;  // a second
};

template <class F>
double best_seconds(int trials, F&& f) {
  f();
  double best = 1e30;
  for (int i = 0; i < trials; ++i) {
    const Clock::time_point begin = Clock::now();
    f();
    best = std::min(best, seconds_since(begin));
  }
  return best;
}

Machine measure_machine(DType precision) {
  constexpr std::int64_t kSide = 2048, kFloats = 32 << 20;
  const NoGrad no_grad;
  Machine machine;
  const Tensor a = full({kSide, kSide}, 1.0, precision), b = full({kSide, kSide}, 1.0, precision);
  machine.flops = 2.0 * kSide * kSide * kSide / best_seconds(5, [&] { static_cast<void>(matmul(a, b)); });
  const Tensor from = zeros({kFloats}), to = zeros({kFloats});
  machine.bytes = 8.0 * kFloats / best_seconds(5, [&] {
                    call(kernels::cast, from.queue(), {from.view(), to.inplace()});
                  });
  return machine;
}

struct Sum {
  double seconds = 0, bound_s = 0;
  KernelWork work;
};

void print_row(const std::string& name, const Sum& s, double step_s) {
  std::printf("| %s | %.1f | %.0f | %.2f | %.0f | %.1f | %.0f |\n", name.c_str(), 1e3 * s.seconds,
              100 * s.seconds / step_s, s.work.flops / 1e9, s.work.bytes / 1e6, 1e3 * s.bound_s,
              100 * s.bound_s / std::max(s.seconds, 1e-12));
}

void print_model(const Options& o, const std::string& name, bool train, const Machine& machine) {
  const DType precision = o.precision == "bf16" ? DType::bf16 : DType::f32;
  constexpr std::int64_t kClasses = 7;
  const bench::RandomBatch batch(o.batch_size, o.image_size, kClasses, Device());
  const auto model =
      models::make_model(name, {.classes = kClasses, .image_size = o.image_size, .dropout = {}});
  optim::FlatParameters parameters(*model);
  const auto optimizer =
      optim::make_optimizer(parameters, {.kind = optim::OptimizerKind::sgd, .momentum = 0.9f});
  if (!train) model->eval();
  const auto step = [&] {
    if (!train) {
      const NoGrad no_grad;
      static_cast<void>((*model)(preprocess(batch.images, precision)));
      return;
    }
    optimizer->zero_grad();
    softmax_cross_entropy((*model)(preprocess(batch.images, precision)), batch.labels).backward();
    optimizer->step(0.01f);
  };
  const double step_s = best_seconds(o.steps, step);
  profiler::start();
  for (int i = 0; i < o.steps; ++i) step();
  std::map<std::string, Sum> kernels;
  Sum all;
  for (const KernelEvent& e : profiler::stop()) {
    const double bound = std::max(e.work.flops / machine.flops, e.work.bytes / machine.bytes) / o.steps;
    for (Sum* sum : {&kernels[e.kernel], &all}) {
      sum->seconds += e.seconds / o.steps;
      sum->bound_s += bound;
      sum->work.flops += e.work.flops / o.steps;
      sum->work.bytes += e.work.bytes / o.steps;
    }
  }
  std::vector<std::pair<std::string, Sum>> rows(kernels.begin(), kernels.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  std::printf("\n%s, %s, %s, batch %lld: %.1f images/s\n\n", name.c_str(), train ? "training" : "inference",
              o.precision.c_str(), static_cast<long long>(o.batch_size),
              static_cast<double>(o.batch_size) / step_s);
  std::printf(
      "| kernel | ms a step | %% | GFLOP | MB | bound, ms | bound / measured, %% |\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n");
  for (const auto& [kernel, sum] : rows) print_row(kernel, sum, step_s);
  print_row("all kernels", all, step_s);
  all.seconds = step_s;
  print_row("a step, not recorded", all, step_s);
}

}  // namespace
}  // namespace cairn

int main(int count, char** arguments) {
  cairn::kernels::adopt_short_waits(arguments);
  cairn::Options o;
  CLI::App app("What bounds a step of each model, as Markdown");
  app.add_option("--models", o.models)->capture_default_str();
  cairn::bench::add_step_options(app, o);
  CLI11_PARSE(app, count, arguments);
  try {
    const cairn::Machine machine =
        cairn::measure_machine(o.precision == "bf16" ? cairn::DType::bf16 : cairn::DType::f32);
    const auto& cpu = cairn::kernels::cpu_info();
    std::printf("%s (%s), %d cores: %.0f GFLOP/s in a matrix product, %.1f GB/s in a copy\n",
                cpu.model.c_str(), cairn::kernels::describe_isa(cpu).c_str(), cairn::kernels::num_threads(),
                machine.flops / 1e9, machine.bytes / 1e9);
    for (const std::string& model : o.models)
      for (const bool train : {true, false}) cairn::print_model(o, model, train, machine);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "roofline: %s\n", error.what());
    return 1;
  }
}
