// bn_ladder: the rungs of batch norm, each held against the formula in double and then timed, or counted on
// the emulated device. Prints a Markdown table.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "bench/ladder/batch_norm.h"
#include "engine/benchmark.h"
#include "engine/tensor.h"
#include "kernels/philox.h"
#include "kernels/roofline.h"

namespace cairn::bench {
namespace {

struct Options {
  std::string device = "cpu", gpu = "sm90_H100";
  std::vector<std::int64_t> shape;
};

/// x = offset + a value in [-1, 1), so that a channel's deviation is about 0.58.
Tensor noise(const Shape& shape, double offset, std::uint64_t seed, Device device) {
  std::vector<double> v(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = offset + 2 * static_cast<double>(uniform_float(philox(seed, 0, i).v[0])) - 1;
  return from_doubles(shape, v, DType::f32, device);
}

struct Problem {
  Problem(const Shape& s, double offset, Device device)
      : shape(s),
        x(noise(s, offset, 1, device)),
        gamma(noise({s[3]}, 1.5, 2, device)),
        beta(noise({s[3]}, 0, 3, device)),
        y(zeros(s, DType::f32, device)),
        mean(zeros({s[3]}, DType::f32, device)),
        inv_std(zeros({s[3]}, DType::f32, device)) {
    args = {.x = x.view(),
            .gamma = gamma.view(),
            .beta = beta.view(),
            .residual = {},
            .y = y.out(),
            .mean = mean.out(),
            .inv_std = inv_std.out(),
            .running_mean = {},
            .running_var = {},
            .activation = kernels::Activation::relu};
    args.scratch_bytes =
        std::max(scratch_bytes(s[3]), kernels::batch_norm_forward.workspace(x.queue(), args));
    scratch = empty({static_cast<std::int64_t>(args.scratch_bytes)}, DType::u8, device);
    args.scratch = scratch.out().data;
  }
  void run(const Rung& rung) const { check(rung.run(x.queue(), args)); }
  /// The formula in double.
  std::vector<double> want() const {
    const std::vector<double> in = x.to_doubles(), g = gamma.to_doubles(), b = beta.to_doubles();
    const std::size_t c = g.size(), rows = in.size() / c;
    std::vector<double> out(in.size());
    for (std::size_t k = 0; k < c; ++k) {
      double m = 0, var = 0;
      for (std::size_t r = 0; r < rows; ++r) m += in[r * c + k] / static_cast<double>(rows);
      for (std::size_t r = 0; r < rows; ++r)
        var += std::pow(in[r * c + k] - m, 2) / static_cast<double>(rows);
      for (std::size_t r = 0; r < rows; ++r)
        out[r * c + k] =
            std::max(g[k] * (in[r * c + k] - m) / std::sqrt(var + static_cast<double>(args.eps)) + b[k], 0.0);
    }
    return out;
  }
  double worst_error(const Rung& rung) const {
    run(rung);
    const std::vector<double> got = y.to_doubles(), right = want();
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      const double error = std::abs(got[i] - right[i]);
      worst = error >= worst || std::isnan(error) ? error : worst;
    }
    return worst;
  }
  Shape shape;
  Tensor x, gamma, beta, y, mean, inv_std, scratch;
  kernels::BatchNormForward args;
};

// Values up to 4 from fp32 statistics of some thousand values: some hundred roundings of 2^-24, added at
// random.
constexpr double kTolerance = 1e-4;

std::string counted_cells(const Timing& t, double least_bytes, const kernels::GpuModel& gpu) {
  kernels::Traffic all;
  kernels::SharedTraffic shared;
  std::int64_t launches = 0, atomics = 0;
  int registers = 0;
  double occupancy = 1, us = 0;
  for (const kernels::KernelCounters& k : t.kernels) {
    launches += k.launches;
    atomics += k.atomics;
    for (const kernels::Traffic* part : {&k.loads, &k.stores}) {
      all.requests += part->requests;
      all.bytes += part->bytes;
      all.sectors += part->sectors;
    }
    shared.waves += k.shared.waves;
    shared.ideal_waves += k.shared.ideal_waves;
    const kernels::Estimate e = kernels::estimate(k, gpu);
    us += e.least();
    if (const kernels::KernelCode* code = kernels::ptxas_of(k.kernel, gpu.architecture)) {
      registers = std::max(registers, code->registers);
      occupancy = std::min(occupancy, e.occupancy);
    }
  }
  char text[200];
  std::snprintf(
      text, sizeof text, "%lld | %.2f (%.2f) | %.2f | %.1f | %.2f | %lld | ",
      static_cast<long long>(launches), static_cast<double>(all.bytes) / 1e6,
      static_cast<double>(all.bytes) / least_bytes, 32e-6 * static_cast<double>(all.sectors),
      static_cast<double>(all.sectors) / static_cast<double>(std::max<std::int64_t>(all.requests, 1)),
      shared.waves > 0 ? static_cast<double>(shared.waves) / static_cast<double>(shared.ideal_waves) : 1.0,
      static_cast<long long>(atomics));
  std::string cells = text;
  if (registers > 0) {
    std::snprintf(text, sizeof text, "%d, %.0f %% | %.1f", registers, 100 * occupancy, us);
  } else {
    std::snprintf(text, sizeof text, "- | %.1f", us);
  }
  return cells + text;
}

int run(const Options& o) {
  const Device device = parse_device(o.device);
  const bool emulated = device.type == DeviceType::cuda_emu;
  Shape shape = emulated ? Shape{4, 28, 28, 128} : Shape{32, 28, 28, 128};
  if (!o.shape.empty()) shape = {o.shape[0], o.shape[1], o.shape[2], o.shape[3]};
  const std::span<const Rung> rungs = device.type == DeviceType::cpu ? cpu_rungs() : cuda_rungs();
  const kernels::GpuModel* gpu = kernels::find_gpu(o.gpu);
  if (!gpu) throw InputError("--gpu " + o.gpu + ": no such GPU is known");
  const Problem usual(shape, 0.5, device), far(shape, 1000, device);
  const double bytes = 3.0 * static_cast<double>(shape.numel()) * 4;  // x twice, y once
  std::printf("batch norm with ReLU, fp32 %s, on %s\n\n", to_string(shape).c_str(),
              kernels::device_api(device.type)->describe(device.index).c_str());
  if (emulated) {
    std::printf(
        "| rung | launches | MB asked for (of the least) | MB in sectors | sectors a request | bank passes | "
        "atomics | "
        "registers, occupancy | estimate for %s, us | not timed | worst error at mean 1000 |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        o.gpu.c_str());
  } else {
    std::printf(
        "| rung | us (best) | GB/s | of the first rung's rate | worst error at mean 1000 |\n"
        "| --- | --- | --- | --- | --- |\n");
  }
  double first = 0;
  for (const Rung& rung : rungs) {
    if (const double error = usual.worst_error(rung); !(error <= kTolerance))
      throw Error("rung '" + std::string(rung.name) + "' is off by " + std::to_string(error) +
                  ": not measured");
    const Timing t = benchmark(
        device, [&] { usual.run(rung); }, bytes);
    const double far_error = far.worst_error(rung);
    if (t.timed) {
      if (first == 0) first = t.median_us;
      std::printf("| %s | %.0f (%.0f) | %.1f | %.1f | %.1e |\n", std::string(rung.name).c_str(), t.median_us,
                  t.samples_us.front(), t.gb_per_s(), first / t.median_us, far_error);
    } else {
      std::printf("| %s | %s | not timed | %.1e |\n", std::string(rung.name).c_str(),
                  counted_cells(t, bytes, *gpu).c_str(), far_error);
    }
    std::fflush(stdout);
  }
  std::printf("\n");
  for (const Rung& rung : rungs)
    std::printf("- %s: %s.\n", std::string(rung.name).c_str(), std::string(rung.change).c_str());
  return 0;
}

}  // namespace
}  // namespace cairn::bench

int main(int argc, char** argv) {
  CLI::App app{"The ladder of batch norm: from the first thing one would write to the product's kernel",
               "bn_ladder"};
  cairn::bench::Options o;
  app.add_option("--device", o.device, "cpu, cuda[:N] or cuda-emu")->capture_default_str();
  app.add_option("--shape", o.shape, "N H W C (default: 32 28 28 128; emulated: 4 28 28 128)")->expected(4);
  app.add_option("--gpu", o.gpu, "GPU of the emulated device's estimates")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return cairn::bench::run(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bn_ladder: %s\n", error.what());
    return 1;
  }
}
