#include "kernels/roofline.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <utility>

namespace cairn::kernels {
namespace {

constexpr GpuModel kModels[] = {
    {"sm75_T4", 75, 40, 1.590, 320, 65, 32, 16, 65536, 0, 256},
    {"sm80_A100", 80, 108, 1.410, 2039, 312, 64, 32, 167936, 1024, 128},
    {"sm86_A10", 86, 72, 1.695, 600, 125, 48, 16, 102400, 1024, 128},
    {"sm86_RTX3090", 86, 82, 1.695, 936, 71, 48, 16, 102400, 1024, 128},
    {"sm89_L4", 89, 58, 2.040, 300, 121, 48, 24, 102400, 1024, 128},
    {"sm89_RTX4090", 89, 128, 2.520, 1008, 165, 48, 24, 102400, 1024, 128},
    {"sm90_H100", 90, 132, 1.980, 3350, 989, 64, 32, 233472, 1024, 128},
    {"sm90_H200", 90, 132, 1.980, 4800, 989, 64, 32, 233472, 1024, 128},
    {"sm100_B200", 100, 148, 1.965, 8000, 2250, 64, 32, 233472, 1024, 128},
    {"sm120_RTX5090", 120, 170, 2.407, 1792, 209, 48, 24, 102400, 1024, 128},
};

constexpr std::int64_t kWarp = 32, kSector = 32;
constexpr std::int64_t kRegisters = 65536;   // of a multiprocessor, on all of these
constexpr std::int64_t kRegisterUnit = 256;  // a warp's registers are given out in multiples of it
// Clocks from a load to its value, past the caches: about this much on A100, H100 and RTX 4090 (Luo et al.
// 2024, "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking",
// arXiv:2402.13499).
constexpr double kLatencyClocks = 500;

constexpr int kArchitectures[] = {75, 80, 86, 89, 90, 100, 120};
struct TableRow {
  std::string_view kernel;
  std::array<KernelCode, std::size(kArchitectures)> code;  // registers = 0: not compiled for it
};
constexpr TableRow kTable[] = {
#include "kernels/ptxas_table.inc"
};

/// Without blanks and the namespaces of cairn: what both compilers' names have in common.
std::string common_name(std::string_view name) {
  std::string out;
  for (const char c : name)
    if (!std::isspace(static_cast<unsigned char>(c))) out += c;
  for (const std::string_view prefix :
       {"(anonymousnamespace)::", "cairn::", "bench::", "kernels::", "kernels_product::", "(int)", "(bool)"})
    for (std::size_t at = out.find(prefix); at != std::string::npos; at = out.find(prefix, at))
      out.erase(at, prefix.size());
  return out;
}

std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

std::span<const GpuModel> gpu_models() { return kModels; }

const GpuModel* find_gpu(std::string_view id) {
  const auto* const found =
      std::find_if(std::begin(kModels), std::end(kModels), [id](const GpuModel& g) { return g.id == id; });
  return found == std::end(kModels) ? nullptr : found;
}

const KernelCode* ptxas_of(std::string_view kernel, int architecture) {
  static const auto& rows = []() -> const auto& {
    static std::map<std::string, const TableRow*, std::less<>> by_name;
    for (const TableRow& row : kTable) by_name.emplace(common_name(row.kernel), &row);
    return by_name;
  }
  ();
  const auto row = rows.find(common_name(kernel));
  const auto* const at = std::find(std::begin(kArchitectures), std::end(kArchitectures), architecture);
  if (row == rows.end() || at == std::end(kArchitectures)) return nullptr;
  const KernelCode& code = row->second->code[static_cast<std::size_t>(at - std::begin(kArchitectures))];
  return code.registers > 0 ? &code : nullptr;
}

double occupancy(const GpuModel& gpu, int registers, std::int64_t shared_bytes, std::int64_t threads) {
  const std::int64_t warps = (threads + kWarp - 1) / kWarp;
  if (warps == 0) return 0;
  std::int64_t blocks = std::min<std::int64_t>(gpu.blocks, gpu.warps / warps);
  if (registers > 0)
    blocks = std::min(blocks, kRegisters / round_up(registers * kWarp, kRegisterUnit) / warps);
  if (const std::int64_t shared = round_up(shared_bytes + gpu.reserved_shared, gpu.shared_unit); shared > 0)
    blocks = std::min(blocks, gpu.shared_bytes / shared);
  return static_cast<double>(blocks * warps) / gpu.warps;
}

double Estimate::least() const { return std::max({memory, shared, atomics}); }

std::string Estimate::limit() const {
  if (least() == memory) return "memory";
  return least() == shared ? "shared memory" : "atomics";
}

Estimate estimate(const KernelCounters& k, const GpuModel& gpu) {
  Estimate e;
  if (k.blocks == 0 || k.counted_blocks == 0) return e;
  // Where only a part of the blocks was counted, they stand for all.
  const double share = static_cast<double>(k.blocks) / static_cast<double>(k.counted_blocks);
  const double clocks_a_us = 1000 * gpu.clock_ghz;
  const auto sectors = static_cast<double>(k.loads.sectors + k.stores.sectors + k.atomics);
  e.memory = share * sectors * kSector / (1000 * gpu.memory_gb_s);
  e.shared = share * static_cast<double>(k.shared.waves) / (gpu.multiprocessors * clocks_a_us);
  e.atomics = share * static_cast<double>(k.atomic_serial) / clocks_a_us;
  if (const KernelCode* code = ptxas_of(k.kernel, gpu.architecture)) {
    const std::int64_t threads = k.threads / k.blocks;
    e.occupancy = occupancy(gpu, code->registers, code->shared + k.dynamic_shared, threads);
    const double resident = e.occupancy * gpu.warps * gpu.multiprocessors;
    const auto requests = share * static_cast<double>(k.loads.requests);  // nothing waits for a store
    if (resident > 0) e.waiting = requests * kLatencyClocks / clocks_a_us / resident;
  }
  return e;
}

}  // namespace cairn::kernels
