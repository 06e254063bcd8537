#include "kernels/emu/report.h"

#include <cstdio>
#include <map>
#include <mutex>
#include <tuple>

#include "kernels/backend.h"
#include "kernels/emu/worker.h"

namespace cairn::emu {
namespace {

using Instructions = std::tuple<Defect, std::uintptr_t, std::uintptr_t>;

struct Reports {
  std::mutex mutex;
  std::vector<Report> found;
  std::map<Instructions, std::size_t> by_instruction;  // index into found
  cudaError_t pending = cudaSuccess;
  bool print = true;
};

Reports& reports() {
  static auto& r = *new Reports;
  return r;
}

/// What a device would make of it.
cudaError_t error_of(Defect defect) {
  switch (defect) {
    case Defect::out_of_bounds:
    case Defect::use_after_free:
    case Defect::host_pointer:
    case Defect::invalid_address:
      return cudaErrorIllegalAddress;
    case Defect::misaligned:
      return cudaErrorMisalignedAddress;
    default:
      return cudaSuccess;
  }
}

/// Index of the report in `found`.
std::size_t add_locked(Reports& r, Report report) {
  if (const Worker* w = kernel_worker(); w && report.kernel.empty()) {
    report.kernel = w->grid->name;
    report.block = dim3(w->block_index.x, w->block_index.y, w->block_index.z);
    report.thread = dim3(w->current->index.x, w->current->index.y, w->current->index.z);
  }
  for (std::size_t i = 0; i < r.found.size(); ++i) {
    Report& old = r.found[i];
    if (old.defect == report.defect && old.kernel == report.kernel && old.location == report.location &&
        old.other == report.other && !report.location.empty()) {
      ++old.count;
      return i;
    }
  }
  std::string text = std::string(name_of(report.defect));
  if (!report.kernel.empty()) {
    text += " in " + report.kernel + ", block " + text_of({report.block.x, report.block.y, report.block.z}) +
            " thread " + text_of({report.thread.x, report.thread.y, report.thread.z});
  }
  if (!report.location.empty()) text += ", " + report.location;
  report.message = text + ": " + report.message;
  if (r.print) {
    std::fflush(stdout);  // both may go to one file
    std::fprintf(stderr, "emulated device: %s\n", report.message.c_str());
  }
  if (r.pending == cudaSuccess) r.pending = error_of(report.defect);
  r.found.push_back(std::move(report));
  return r.found.size() - 1;
}

}  // namespace

const char* name_of(Defect defect) {
  constexpr const char* kNames[] = {
      "out of bounds",      "use after free", "misaligned access", "host pointer", "foreign local",
      "uninitialised read", "race",           "divergent barrier", "warp mask",    "invalid launch",
      "invalid address",    "arithmetic",     "stream order"};
  return kNames[static_cast<std::size_t>(defect)];
}

std::string text_of(uint3 i) {
  return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}

void add_report(Report report) {
  const std::lock_guard lock(reports().mutex);
  add_locked(reports(), std::move(report));
}

void add_report(Report report, std::uintptr_t pc, std::uintptr_t other_pc) {
  const std::lock_guard lock(reports().mutex);
  const Defect defect = report.defect;
  reports().by_instruction[{defect, pc, other_pc}] = add_locked(reports(), std::move(report));
}

bool count_repeated(Defect defect, std::uintptr_t pc, std::uintptr_t other_pc) {
  Reports& r = reports();
  const std::lock_guard lock(r.mutex);
  const auto it = r.by_instruction.find({defect, pc, other_pc});
  if (it == r.by_instruction.end()) return false;
  ++r.found[it->second].count;
  return true;
}

std::vector<Report> take_reports() {
  const std::lock_guard lock(reports().mutex);
  reports().by_instruction.clear();
  return std::exchange(reports().found, {});
}

void print_reports(bool on) {
  const std::lock_guard lock(reports().mutex);
  reports().print = on;
}

cudaError_t take_device_error() {
  const std::lock_guard lock(reports().mutex);
  return std::exchange(reports().pending, cudaSuccess);
}

}  // namespace cairn::emu

int cairn_emu_take_defects(char* text, std::size_t size) {
  const std::vector<cairn::emu::Report> reports = cairn::emu::take_reports();
  std::string all;
  for (const cairn::emu::Report& r : reports) all += (all.empty() ? "" : "\n    ") + r.message;
  std::snprintf(text, size, "%s", all.c_str());
  return static_cast<int>(reports.size());
}
