#include "kernels/emu/ledger.h"

#include <sys/mman.h>

#include <atomic>
#include <map>
#include <mutex>
#include <regex>
#include <utility>

#include "kernels/emu/counters.h"
#include "kernels/emu/heap.h"
#include "kernels/error.h"

namespace cairn::emu {
namespace {

/// Which sectors of the device's memory a grid has touched: a bit each.
class SectorSet {
 public:
  /// True if it was not in the set.
  bool insert(std::uint64_t sector) {
    if (!words_) map();
    std::uint64_t& word = words_[sector / 64];
    const std::uint64_t bit = std::uint64_t{1} << sector % 64;
    if (word & bit) return false;
    if (word == 0) touched_.push_back(sector / 64);
    word |= bit;
    ++count_;
    return true;
  }
  std::int64_t count() const { return count_; }
  void clear() {
    for (const std::uint64_t w : touched_) words_[w] = 0;
    touched_.clear();
    count_ = 0;
  }

 private:
  void map() {
    void* got = mmap(nullptr, kHeapBytes / kSectorBytes / 8, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) throw Error("[emulated device] no addresses for a ledger; raise `ulimit -v`");
    words_ = static_cast<std::uint64_t*>(got);
  }
  std::uint64_t* words_ = nullptr;
  std::vector<std::uint64_t> touched_;
  std::int64_t count_ = 0;
};

struct State {
  std::mutex mutex;
  std::atomic<bool> open{false}, counting_only{false};
  std::vector<LedgerEntry> entries;
  SectorSet loaded, stored;
};
State& state() {
  static auto& s = *new State;
  return s;
}

void add(LedgerEntry entry) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (s.open) s.entries.push_back(std::move(entry));
}

double share(std::int64_t ideal, std::int64_t got) {
  return got == 0 ? 1.0 : static_cast<double>(ideal) / static_cast<double>(got);
}

}  // namespace

const char* name_of(LedgerEntry::Kind kind) {
  switch (kind) {
    case LedgerEntry::Kind::kernel:
      return "kernel";
    case LedgerEntry::Kind::library:
      return "library";
    case LedgerEntry::Kind::copy:
      return "copy";
  }
  return "";
}

void begin_ledger() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.entries.clear();
  s.open = true;
}

std::vector<LedgerEntry> end_ledger() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.open = false;
  return std::exchange(s.entries, {});
}

bool ledger_open() { return state().open; }
void set_counting_only(bool on) { state().counting_only = on; }
bool counting_only() { return state().counting_only; }

void note_sector(std::uintptr_t sector, bool load) {
  State& s = state();
  (load ? s.loaded : s.stored).insert(sector - kHeapBase / kSectorBytes);
}

void note_kernel(const KernelCounters& launch) {
  State& s = state();
  add({.kind = LedgerEntry::Kind::kernel,
       .name = launch.kernel,
       .read = s.loaded.count() * static_cast<std::int64_t>(kSectorBytes),
       .written = s.stored.count() * static_cast<std::int64_t>(kSectorBytes),
       .loads = launch.loads,
       .stores = launch.stores,
       .shared = launch.shared,
       .atomics = launch.atomics});
  s.loaded.clear();
  s.stored.clear();
}

bool note_library_call(const std::string& name, std::int64_t read, std::int64_t written, double flops) {
  add({.kind = LedgerEntry::Kind::library, .name = name, .read = read, .written = written, .flops = flops});
  return !counting_only();
}

void note_copy(const char* name, std::size_t read, std::size_t written) {
  add({.kind = LedgerEntry::Kind::copy,
       .name = name,
       .read = static_cast<std::int64_t>(read),
       .written = static_cast<std::int64_t>(written)});
}

double LedgerRow::sector_efficiency() const { return share(ideal_sectors, sectors); }

std::string short_kernel_name(const std::string& name) {
  static const std::regex namespaces(R"(\(anonymous namespace\)::|cairn::kernels::|cairn::)");
  static const std::regex casts(R"(\((int|bool)\))");
  std::string out = std::regex_replace(std::regex_replace(name, namespaces, ""), casts, "");
  for (const auto& [from, to] : {std::pair{"__nv_bfloat16", "bf16"}, {"__half", "f16"}, {" >", ">"}})
    for (std::size_t at = out.find(from); at != std::string::npos; at = out.find(from))
      out.replace(at, std::string(from).size(), to);
  return out;
}

std::vector<LedgerRow> ledger_rows(std::span<const LedgerEntry> entries) {
  std::map<std::pair<LedgerEntry::Kind, std::string>, LedgerRow> rows;
  for (const LedgerEntry& e : entries) {
    const std::string name = e.kind == LedgerEntry::Kind::kernel ? short_kernel_name(e.name) : e.name;
    LedgerRow& row = rows[{e.kind, name}];
    row.kind = e.kind;
    row.name = name;
    ++row.launches;
    row.read += e.read;
    row.written += e.written;
    row.sectors += e.loads.sectors + e.stores.sectors;
    row.ideal_sectors += e.loads.ideal_sectors + e.stores.ideal_sectors;
    row.waves += e.shared.waves;
    row.ideal_waves += e.shared.ideal_waves;
    row.flops += e.flops;
  }
  std::vector<LedgerRow> out;
  for (auto& [key, row] : rows) out.push_back(std::move(row));
  return out;
}

}  // namespace cairn::emu
