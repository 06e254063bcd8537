// device_bench: every kernel of a CUDA device, held against the CPU's and then timed (engine/benchmark.h),
// or, on the emulated device, counted. Writes Google Benchmark's form of JSON, a sample an entry, for
// scripts/bench-compare and bench/kernels/table.py.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "bench/device/case.h"
#include "engine/backend.h"
#include "engine/benchmark.h"
#include "kernels/roofline.h"

namespace cairn::bench {
namespace {

using nlohmann::json;

struct Options {
  std::string device = "cuda", filter = ".", out, gpu = "sm90_H100";
  std::int64_t batch = 0;
};

/// The dtype's rounding, as a share of a value.
double epsilon_of(DType t) {
  if (t == DType::bf16) return 0x1p-7;
  return t == DType::f16 ? 0x1p-10 : 0x1p-20;  // fp32: sums of many terms in another order
}

/// Empty, or what is wrong with it: the CPU computes the same in fp32 from the same values. An element or two
/// in a million may differ by more: those whose ReLU lies within a rounding of 0.
std::string difference(const Built& got, const Built& want, DType dtype) {
  got.run();
  want.run();
  for (std::size_t r = 0; r < got.results.size(); ++r) {
    const std::vector<double> a = got.results[r].to_doubles(), b = want.results[r].to_doubles();
    double largest = 0;
    for (const double v : b) largest = std::max(largest, std::abs(v));
    const double allowed = 2 * epsilon_of(dtype) * largest;
    std::int64_t kinks = 1 + static_cast<std::int64_t>(a.size() / 1'000'000);
    if (largest == 0) return "the result is nothing but zeros";
    for (std::size_t i = 0; i < a.size(); ++i)
      if (!(std::abs(a[i] - b[i]) <= allowed) && --kinks < 0)
        return "result " + std::to_string(r) + " element " + std::to_string(i) + " is " +
               std::to_string(a[i]) + ", the CPU has " + std::to_string(b[i]);
  }
  return {};
}

std::string name_of_case(const Case& c) {
  std::string name = c.op + "/";
  for (int i = 0; i < c.shape.rank; ++i) name += (i ? "x" : "") + std::to_string(c.shape[i]);
  return name + "/" + name_of(c.dtype);
}

/// "plain" for products without the vendor's library (CAIRN_WITHOUT), else "cairn": the engine as it is.
std::string who_serves(const Case& c) {
  if (c.flops == 0) return "cairn";
  const std::string wanted = c.op.starts_with("conv") ? "cuDNN" : "cuBLASLt";
  const auto& parts = backend_parts();
  const bool served = std::any_of(parts.begin(), parts.end(),
                                  [&](const BackendPart& part) { return part.name == wanted && part.works; });
  return served ? "cairn" : "plain";
}

json counted(const std::vector<kernels::KernelCounters>& kernels, const kernels::GpuModel& gpu) {
  json out = json::array();
  for (const kernels::KernelCounters& k : kernels) {
    const kernels::Estimate e = kernels::estimate(k, gpu);
    json row = {{"kernel", k.kernel},
                {"launches", k.launches},
                {"bytes", k.loads.bytes + k.stores.bytes},
                {"requests", k.loads.requests + k.stores.requests},
                {"sectors", k.loads.sectors + k.stores.sectors},
                {"ideal_sectors", k.loads.ideal_sectors + k.stores.ideal_sectors},
                {"waves", k.shared.waves},
                {"ideal_waves", k.shared.ideal_waves},
                {"atomics", k.atomics},
                {"divergent_requests", k.divergent_requests},
                {"estimate_us", e.least()}};
    if (const kernels::KernelCode* code = kernels::ptxas_of(k.kernel, gpu.architecture)) {
      row["registers"] = code->registers;
      row["spills"] = code->spills;
      row["occupancy"] = e.occupancy;
    }
    out.push_back(std::move(row));
  }
  return out;
}

void add_rows(json& rows, const Case& c, const Timing& t, const kernels::GpuModel& gpu) {
  const json row = {{"name", name_of_case(c) + "/" + who_serves(c)},
                    {"run_type", "iteration"},
                    {"time_unit", "us"},
                    {"bytes", c.bytes},
                    {"flops", c.flops}};
  if (!t.timed) {
    json one = row;
    one["not_timed"] = true;
    one["kernels"] = counted(t.kernels, gpu);
    rows.push_back(std::move(one));
    return;
  }
  for (const double us : t.samples_us) {
    json one = row;
    one["real_time"] = us;
    one["bytes_per_second"] = c.bytes / us * 1e6;
    rows.push_back(std::move(one));
  }
}

int run(const Options& o) {
  const Device device = parse_device(o.device);
  const kernels::GpuModel* gpu = kernels::find_gpu(o.gpu);
  if (!gpu) throw InputError("--gpu " + o.gpu + ": no such GPU is known; see kernels/emu/profiles");
  const std::int64_t batch = o.batch > 0 ? o.batch : device.type == DeviceType::cuda ? 32 : 1;
  std::vector<Case> cases = memory_bound_cases(batch);
  for (Case& c : product_cases(batch)) cases.push_back(std::move(c));
  const std::regex filter(o.filter);
  json rows = json::array();
  std::string clocks;
  int wrong = 0;
  for (const Case& c : cases) {
    const std::string name = name_of_case(c);
    if (!std::regex_search(name, filter)) continue;
    const Built here = c.build(device, c.dtype);
    if (const std::string problem = difference(here, c.build({}, DType::f32), c.dtype); !problem.empty()) {
      std::fprintf(stderr, "device_bench: %s: %s: not measured\n", name.c_str(), problem.c_str());
      ++wrong;
      continue;
    }
    const Timing t = benchmark(device, here.run, c.bytes);
    if (!t.clocks().empty()) clocks = t.clocks();
    add_rows(rows, c, t, *gpu);
    std::fprintf(stderr, "%s\n", t.line(name + "/" + who_serves(c)).c_str());
  }
  if (rows.empty() && wrong == 0) throw InputError("--filter " + o.filter + " leaves no kernel");
  const json all = {{"context",
                     {{"device", kernels::device_api(device.type)->describe(device.index)},
                      {"timed", device.type == DeviceType::cuda},
                      {"gpu", o.gpu},
                      {"clocks", clocks},
                      {"batch", batch}}},
                    {"benchmarks", rows}};
  if (o.out.empty()) {
    std::printf("%s\n", all.dump(1).c_str());
  } else {
    std::ofstream file(o.out);
    file << all.dump(1) << "\n";
    file.flush();
    if (!file) throw Error("cannot write " + o.out);
  }
  return wrong > 0 ? 1 : 0;
}

}  // namespace
}  // namespace cairn::bench

int main(int argc, char** argv) {
  CLI::App app{"Times every kernel of a CUDA device, or counts what it moves on the emulated one",
               "device_bench"};
  cairn::bench::Options o;
  app.add_option("--device", o.device, "cuda, cuda:N or cuda-emu")->capture_default_str();
  app.add_option("--filter", o.filter, "a regular expression over OP/SHAPE/DTYPE")->capture_default_str();
  app.add_option("--batch", o.batch, "images (default: 32; emulated: 1, and smaller products)");
  app.add_option("--gpu", o.gpu, "whose registers, occupancy and estimate the emulated device shows")
      ->capture_default_str();
  app.add_option("--out", o.out, "JSON file (default: standard output)");
  CLI11_PARSE(app, argc, argv);
  try {
    return cairn::bench::run(o);
  } catch (const cairn::InputError& error) {
    std::fprintf(stderr, "device_bench: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "device_bench: %s\n", error.what());
    return 1;
  }
}
