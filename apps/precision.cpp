#include "apps/precision.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/optim/optimizer.h"
#include "kernels/atomic_file.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "kernels/user_cache.h"
#include "models/registry.h"
#include "oneapi/dnnl/dnnl.h"

namespace cairn::app {
namespace {

/// bf16 rounds every activation to 8 bits: for less than this it is not worth it.
constexpr double kWorthwhile = 1.05;
constexpr std::int64_t kImages = 8, kSide = 224, kClasses = 10;
constexpr int kTrials = 2;

struct Measured {
  double fp32_s = 0, bf16_s = 0;  // a step
};

double step_seconds(DType precision) {
  const auto model =
      models::make_model("resnet18", {.classes = kClasses, .image_size = kSide, .dropout = {}});
  optim::FlatParameters parameters(*model);
  const auto optimizer = optim::make_optimizer(parameters, {.kind = optim::OptimizerKind::sgd});
  const std::vector<std::uint8_t> noise = [] {
    std::vector<std::uint8_t> pixels(kImages * kSide * kSide * 3);
    for (std::size_t i = 0; i < pixels.size(); ++i)
      pixels[i] = static_cast<std::uint8_t>(i * 2654435761u >> 24);
    return pixels;
  }();
  const Tensor images = from_values<std::uint8_t>({kImages, kSide, kSide, 3}, noise);
  const Tensor labels = zeros({kImages}, DType::i32);
  double best = 0;
  for (int trial = 0; trial <= kTrials; ++trial) {
    const auto begin = std::chrono::steady_clock::now();
    optimizer->zero_grad();
    softmax_cross_entropy((*model)(preprocess(images, precision)), labels).backward();
    optimizer->step(0.0f);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (trial > 0) best = trial == 1 ? seconds : std::min(best, seconds);  // the first makes its primitives
  }
  return best;
}

/// All that the answer depends on.
std::string machine_text() {
  const kernels::CpuInfo& cpu = kernels::cpu_info();
  const dnnl_version_t* v = dnnl_version();
  const std::string onednn =
      std::to_string(v->major) + '.' + std::to_string(v->minor) + '.' + std::to_string(v->patch);
  const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  const char* left_out = std::getenv("CAIRN_WITHOUT");
  return cpu.model + ", " + kernels::describe_isa(cpu) + ", " + std::to_string(kernels::num_threads()) +
         " threads, cairn " CAIRN_VERSION ", oneDNN " + onednn +
         (limit ? std::string(", oneDNN up to ") + limit : "") +
         (left_out ? std::string(", without ") + left_out : "");
}

std::filesystem::path file_of(const std::string& machine) {
  const std::filesystem::path folder = user_cache_folder();
  if (folder.empty()) return {};
  std::string name = machine;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c) && c != '.'; }, '-');
  return folder / "precision" / (name + ".json");
}

/// Nothing where there is no file, or not one that this program wrote for this machine.
std::optional<Measured> load(const std::filesystem::path& file, const std::string& machine) {
  if (file.empty()) return std::nullopt;
  std::ifstream in(file);
  const nlohmann::json json = nlohmann::json::parse(in, nullptr, false);
  if (!json.is_object() || !json.contains("machine") || json["machine"] != machine) return std::nullopt;
  const auto seconds = [&](const char* name) {
    return json.contains(name) && json[name].is_number() ? json[name].get<double>() : 0.0;
  };
  const Measured m{seconds("fp32_s"), seconds("bf16_s")};
  return m.fp32_s > 0 && m.bf16_s > 0 ? std::optional(m) : std::nullopt;
}

void store(const std::filesystem::path& file, const std::string& machine, const Measured& m) try {
  if (file.empty()) return;
  std::filesystem::create_directories(file.parent_path());
  write_file_atomically(
      file.string(),
      nlohmann::json{{"machine", machine}, {"fp32_s", m.fp32_s}, {"bf16_s", m.bf16_s}}.dump(1) + '\n');
} catch (const std::exception&) {
  // Asked again next time.
}

std::string times(double ratio) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", ratio);
  return text;
}

FastPrecision verdict(const Measured& m) {
  const double ratio = m.bf16_s / m.fp32_s;
  if (ratio * kWorthwhile < 1)
    return {"bf16", "measured to be " + times(1 / ratio) + " times as fast as fp32 here"};
  return {"fp32", "bf16 was measured to take " + times(ratio) + " times as long here"};
}

FastPrecision cpu_precision() {
  const std::string machine = machine_text();
  const std::filesystem::path file = file_of(machine);
  if (const auto known = load(file, machine)) return verdict(*known);
  const Measured measured{step_seconds(DType::f32), step_seconds(DType::bf16)};
  // What the trial held is not the run's: its plan takes what the process holds before it begins for the
  // program's.
  release_cached_memory({DeviceType::cpu, 0});
  // Another process may have been quicker: all go by one answer.
  if (const auto known = load(file, machine)) return verdict(*known);
  store(file, machine, measured);
  return verdict(load(file, machine).value_or(measured));
}

}  // namespace

FastPrecision fast_precision(Device device) {
  const DType offered = fast_dtype(device);
  if (device.type != DeviceType::cpu) return {name_of(offered), "what the device computes fastest"};
  if (offered == DType::f32) return {"fp32", "the CPU has no bf16 instructions"};
  return cpu_precision();
}

std::string settled_precision(const std::string& precision, Device device) {
  return precision == "auto" ? fast_precision(device).name : precision;
}

DType precision_dtype(const std::string& precision, Device device) {
  if ((precision == "fp16" || precision == "tf32") && device.type == DeviceType::cpu)
    throw InputError("--precision " + precision + " is for CUDA devices; on the CPU there are fp32 and bf16");
  if (precision == "fp32" || precision == "tf32") return DType::f32;
  if (precision == "bf16") return DType::bf16;
  if (precision == "fp16") return DType::f16;
  throw InputError("--precision " + precision + " is not one to compute in: fp32, tf32, bf16 or fp16");
}

}  // namespace cairn::app
