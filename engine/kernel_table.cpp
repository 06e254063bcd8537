#include "engine/kernel_table.h"

#include <algorithm>

#include "engine/format_text.h"

namespace cairn {
namespace {

double ratio(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 1 : static_cast<double>(part) / static_cast<double>(whole);
}

struct Sums {
  double loaded, stored;            // MB
  double sectors_a_request;         // of 32 bytes
  double coalesced, conflict_free;  // shares
};
Sums sums_of(const kernels::KernelCounters& k) {
  return {static_cast<double>(k.loads.bytes) / 1e6, static_cast<double>(k.stores.bytes) / 1e6,
          ratio(k.loads.sectors + k.stores.sectors, k.loads.requests + k.stores.requests),
          ratio(k.loads.ideal_sectors + k.stores.ideal_sectors, k.loads.sectors + k.stores.sectors),
          ratio(k.shared.ideal_waves, k.shared.waves)};
}

}  // namespace

std::string summary_of(const kernels::KernelCounters& k) {
  const Sums s = sums_of(k);
  std::string text =
      k.kernel +
      format_text(": %lld %s, %.3f MB read, %.3f MB written, %.1f sectors a request, %.0f %% coalesced",
                  static_cast<long long>(k.launches), k.launches == 1 ? "launch" : "launches", s.loaded,
                  s.stored, s.sectors_a_request, 100 * s.coalesced);
  if (k.shared.requests > 0) text += format_text(", %.0f %% free of bank conflicts", 100 * s.conflict_free);
  if (k.atomics > 0) text += format_text(", %lld atomics", static_cast<long long>(k.atomics));
  return text;
}

std::string kernel_table(std::span<const kernels::KernelCounters> kernels,
                         std::span<const kernels::GpuModel* const> gpus) {
  std::size_t width = 6;
  for (const kernels::KernelCounters& k : kernels)
    width = std::max(width, std::min<std::size_t>(k.kernel.size(), 72));
  const auto name_column = [width](std::string name) {
    if (name.size() > width) name = name.substr(0, width - 3) + "...";
    return name + std::string(width - name.size(), ' ');
  };
  std::string text =
      name_column("kernel") +
      "  launches   read MB  write MB  sectors/req  coalesced  no bank confl.    atomics  contended  "
      "divergent\n";
  for (const kernels::KernelCounters& k : kernels) {
    const Sums s = sums_of(k);
    text += name_column(k.kernel) + format_text("  %8lld", static_cast<long long>(k.launches));
    if (k.counted_blocks == 0) {
      text += "  not counted: these kernels are not checked ones\n";
      continue;
    }
    text +=
        format_text("  %8.3f  %8.3f  %11.2f  %8.0f %%  %12.0f %%  %9lld  %9lld  %9lld\n", s.loaded, s.stored,
                    s.sectors_a_request, 100 * s.coalesced, 100 * s.conflict_free,
                    static_cast<long long>(k.atomics + k.shared_atomics),
                    static_cast<long long>(k.atomic_serial), static_cast<long long>(k.divergent_requests));
  }
  for (const kernels::GpuModel* gpu : gpus) {
    text += "\nestimate, not measured, for " + std::string(gpu->id) +
            format_text(" (%.0f GB/s, %d SMs at %.2f GHz): no caches, no launch overhead\n", gpu->memory_gb_s,
                        gpu->multiprocessors, gpu->clock_ghz) +
            name_column("kernel") +
            "  registers  spilled  occupancy  at least us  set by         if loads wait us\n";
    double total = 0;
    for (const kernels::KernelCounters& k : kernels) {
      if (k.counted_blocks == 0) continue;
      const kernels::Estimate e = kernels::estimate(k, *gpu);
      const kernels::KernelCode* code = kernels::ptxas_of(k.kernel, gpu->architecture);
      text += name_column(k.kernel);
      text += code ? format_text("  %9d  %7d  %7.0f %%", code->registers, code->spills, 100 * e.occupancy)
                   : std::string("          -        -          -");
      text += format_text("  %11.2f  %-13s", e.least(), e.limit().c_str());
      text += code ? format_text("  %16.2f\n", std::max(e.waiting, e.least()))
                   : std::string("                 -\n");
      total += e.least();
    }
    text += name_column("all") + std::string(33, ' ') + format_text("  %8.2f\n", total);
  }
  return text;
}

}  // namespace cairn
