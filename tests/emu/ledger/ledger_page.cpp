#include "tests/emu/ledger/ledger_page.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include "kernels/roofline.h"

namespace cairn {
namespace {

constexpr std::int64_t kBatch = 256;

std::string text_of(const char* format, auto... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

constexpr const char* kBeginning = R"(# What a training step moves

Made by `scripts/ledger`: one step of each model at 224x224, as `cairn train` runs it once it is warm, on the emulated device,
where every operation's bytes are counted. Nothing here was measured on a GPU, and nothing here is a time but the last table,
which is an estimate.

Bytes are those that memory has to give and take at least once: of a kernel the distinct 32-byte sectors of the whole grid (what
its threads share comes from the caches), of a call of cuDNN or cuBLASLt each operand once (of a strided 1x1 filter only the
pixels that it meets; what a library does in its workspace is its own), of copies their length. They are linear in the batch,
`bytes = a N + b`, and were counted at 4 and 8 images (ModelCNN: 2 and 4), every block of every kernel: a is activations, and
batch norm's partial sums until those stop growing at 512 parts; b is parameters. fp16 moves what bf16 does, and 4 bytes a
parameter more where the loss scale looks for overflow.

**The floor.** A convolution with batch norm and ReLU behind it passes over its output y, counted as its input's size too,

| passes over y | forward | backward |
| --- | --- | --- |
| convolution | reads x, writes y: 2 | data gradient reads dy, writes dx: 2; weight gradient reads x and dy: 2 |
| batch norm + ReLU in one op | reads for the statistics, reads, writes: 3 | reads x and dy for the sums, again, writes dx: 5 |

14 in all: `floor = 14 x bytes of an element x sum over the convolutions of |y|`, 2,483,712 elements an image for ResNet-18. (With
ReLU apart it is 19.) What a step needs beside it: the residual (read forward; backward y for the mask, and a gradient that is
written and added to), the pool behind the first layer, its input, and the parameters: 28 bytes each for Adam, and what the
convolutions read and write of them. `tests/emu/ledger` fails where the activations of a ResNet-18 step exceed 1.15 times the
floor, where an elementwise kernel or batch norm uses less than 0.95 of the sectors that it asks for, and where any figure of
`tests/emu/ledger/steps` changes. The efficiencies are those of the larger of the two batches; what weighs on them (a thread's first reads of its
channels, partial sums at its end) is the same for any number of rows, so that a larger batch has higher ones.

)";

/// What an operation is for.
std::string group_of(const emu::LedgerEntry& e) {
  const std::string name = emu::short_kernel_name(e.name);
  if (e.kind == emu::LedgerEntry::Kind::copy) return "copies from the host, fills";
  if (name.starts_with("conv fprop")) return "convolution, forward";
  if (name.starts_with("conv dgrad")) return "convolution, data gradient";
  if (name.starts_with("conv wgrad")) return "convolution, weight gradient";
  if (name.starts_with("product")) return "products";
  static constexpr std::pair<const char*, const char*> kKinds[] = {{"walk_kernel", "batch norm"},
                                                                   {"finish_kernel", "batch norm"},
                                                                   {"GradientSumsOf", "batch norm"},
                                                                   {"MomentsOf", "batch norm"},
                                                                   {"MaxForward", "pooling"},
                                                                   {"MaxBackward", "pooling"},
                                                                   {"Avg", "pooling"},
                                                                   {"avg", "pooling"},
                                                                   {"Relu", "ReLU"},
                                                                   {"Dropout", "dropout"},
                                                                   {"AdamOf", "optimiser"},
                                                                   {"CastOf", "conversions between types"},
                                                                   {"pad_channels", "padding of channels"},
                                                                   {"Preprocess", "pixels to input"}};
  for (const auto& [part, group] : kKinds)
    if (name.find(part) != std::string::npos) return group;
  return "all else";
}

std::string step_table(const std::vector<StepHeld>& steps) {
  std::string text =
      "| step | kernels, calls of libraries, copies | MB an image | MB a step | GB at batch 256 | of the "
      "floor: activations | "
      "with parameters, at batch 256 | lowest sector efficiency | memory held, GB at batch 32 and 256 |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const StepHeld& s : steps) {
    const StepLedger& l = s.ledger;
    std::map<emu::LedgerEntry::Kind, int> count;
    for (const auto& o : l.operations) ++count[o.counted.kind];
    double lowest = 1;
    std::string worst;
    for (const StepRow& r : rows_of(l))
      if (r.counted.sectors > 0 && r.counted.sector_efficiency() < lowest) {
        lowest = r.counted.sector_efficiency();
        worst = r.name;
      }
    const bool batch_norm = l.model != "model_cnn";
    text += text_of("| %s %s | %d, %d, %d | %.2f | %.1f | %.2f | ", l.model.c_str(), name_of(l.dtype),
                    count[emu::LedgerEntry::Kind::kernel], count[emu::LedgerEntry::Kind::library],
                    count[emu::LedgerEntry::Kind::copy], l.bytes_per_image() / 1e6, l.bytes_per_step() / 1e6,
                    l.bytes(kBatch) / 1e9);
    text += batch_norm ? text_of("%.3f | %.3f |", l.bytes_per_image() / l.floor(1),
                                 l.bytes(kBatch) / l.floor(kBatch))
                       : " | |";
    text += text_of(" %.2f (%s) | %.2f, %.2f |\n", lowest, worst.substr(0, 60).c_str(),
                    static_cast<double>(s.at_32) / 1e9, static_cast<double>(s.at_256) / 1e9);
  }
  return text;
}

std::string group_table(const StepLedger& l) {
  std::map<std::string, std::array<double, 3>> groups;
  for (const auto& o : l.operations) {
    auto& g = groups[group_of(o.counted)];
    g[0] += 1;
    g[1] += o.bytes_per_image;
    g[2] += o.bytes_per_step;
  }
  std::vector<std::pair<std::string, std::array<double, 3>>> sorted(groups.begin(), groups.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second[1] * kBatch + a.second[2] > b.second[1] * kBatch + b.second[2];
  });
  std::string text = text_of(
      "\n## Where the bytes go: %s in %s\n\n| what | operations | MB an image | MB a step | share at batch "
      "256 |\n"
      "| --- | --- | --- | --- | --- |\n",
      l.model.c_str(), name_of(l.dtype));
  for (const auto& [name, g] : sorted)
    text += text_of("| %s | %.0f | %.3f | %.2f | %.1f %% |\n", name.c_str(), g[0], g[1] / 1e6, g[2] / 1e6,
                    100 * (g[1] * kBatch + g[2]) / l.bytes(kBatch));
  return text;
}

std::string convolution_table(const StepLedger& l) {
  std::string text = text_of(
      "\n## By convolution: %s in %s\n\n| call | times | MB an image | MB a step |\n| --- | --- | --- | --- "
      "|\n",
      l.model.c_str(), name_of(l.dtype));
  for (const StepRow& r : rows_of(l))
    if (r.counted.kind == emu::LedgerEntry::Kind::library)
      text +=
          text_of("| %s | %lld | %.3f | %.3f |\n", r.name.c_str(), static_cast<long long>(r.counted.launches),
                  r.bytes_per_image / 1e6, r.bytes_per_step / 1e6);
  return text;
}

/// Each operation at the peak of memory or of tensor cores, whichever takes longer, one after another.
double estimate(const StepLedger& l, const kernels::GpuModel& gpu) {
  double seconds = 0;
  for (const auto& o : l.operations)
    seconds += std::max(o.bytes(kBatch) / (gpu.memory_gb_s * 1e9),
                        o.flops_per_image * static_cast<double>(kBatch) / (gpu.tensor_tflops * 1e12));
  return seconds;
}

std::string estimate_table(const std::vector<StepHeld>& steps) {
  std::string text =
      "\n## An estimate of the time, not a measurement\n\nEach operation takes as long as its bytes at the "
      "memory's bandwidth or its "
      "arithmetic on tensor cores, whichever is longer (NVIDIA's data sheets), one after another; launches, "
      "latency, cache misses and "
      "what a kernel cannot reach of either cost nothing. So this is the most that a GPU could do with these "
      "steps at batch 256, and a "
      "real one does less. The T4 has no bf16; its row stands for fp16.\n\n"
      "| GPU | GB/s | TFLOP/s |";
  std::string line = "| --- | --- | --- |";
  std::vector<const StepLedger*> shown;
  for (const StepHeld& s : steps)
    if (s.ledger.dtype == DType::bf16 && s.ledger.model != "resnet_classes") {
      shown.push_back(&s.ledger);
      text += text_of(" %s: ms a step | images/s at most |", s.ledger.model.c_str());
      line += " --- | --- |";
    }
  text += "\n" + line + "\n";
  for (const kernels::GpuModel& gpu : kernels::gpu_models()) {
    text += text_of("| %s | %.0f | %.0f |", std::string(gpu.id).c_str(), gpu.memory_gb_s, gpu.tensor_tflops);
    for (const StepLedger* l : shown) {
      const double seconds = estimate(*l, gpu);
      text += text_of(" %.1f | %.0f |", seconds * 1e3, static_cast<double>(kBatch) / seconds);
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::string ledger_page(const std::vector<StepHeld>& steps) {
  std::string text = kBeginning + step_table(steps);
  for (const StepHeld& s : steps) {
    if (s.ledger.dtype != DType::bf16 || s.ledger.model == "resnet_classes") continue;
    text += group_table(s.ledger) + convolution_table(s.ledger);
  }
  return text + estimate_table(steps);
}

}  // namespace cairn
