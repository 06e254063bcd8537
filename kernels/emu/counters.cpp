#include "kernels/emu/counters.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <unordered_map>

#include "kernels/emu/ledger.h"
#include "kernels/emu/worker.h"

namespace cairn::emu {
namespace {

constexpr unsigned kBanks = 32;  // of 4 bytes each

struct Entry {
  std::uintptr_t address;
  std::uint32_t pc;  // low half
  std::uint8_t bytes;
  Access access;
  bool shared;
};

/// One lane's part in a request.
struct Part {
  std::uintptr_t address;
  std::uint32_t bytes;
};
struct Request {
  std::uint32_t pc = 0;
  Access access{};
  bool shared = false;
  unsigned lanes = 0;
  std::array<Part, kWarp> parts;
};

struct Line {
  Traffic loads, stores;
  SharedTraffic shared;
  std::int64_t atomics = 0, active_lanes = 0;
};

struct Tally {
  KernelCounters total;
  std::unordered_map<std::uint32_t, Line> by_pc;
};

struct Counters {
  std::mutex mutex;
  std::map<std::string, Tally> kernels;
  std::vector<std::vector<Entry>> logs;  // of the block's threads
  Tally* tally = nullptr;
  KernelCounters before;  // of the grid under way, for the ledger
  bool logging = false;
  int sampling = 1;
  std::uint64_t blocks_seen = 0;
};

Counters& counters_state() {
  static auto& c = *new Counters;
  return c;
}

template <class T, std::size_t N>
unsigned distinct(std::array<T, N>& values, unsigned n) {
  std::sort(values.begin(), values.begin() + n);
  return static_cast<unsigned>(std::unique(values.begin(), values.begin() + n) - values.begin());
}

void add(Traffic& t, std::int64_t bytes, std::int64_t sectors, std::int64_t ideal) {
  ++t.requests;
  t.bytes += bytes;
  t.sectors += sectors;
  t.ideal_sectors += ideal;
}

/// Walks the lanes' parts by address: what several of them touch counts once.
void count_global(Tally& tally, Line& line, const Request& r) {
  std::array<Part, kWarp> parts = r.parts;
  const auto by_address = [](const Part& a, const Part& b) { return a.address < b.address; };
  if (!std::is_sorted(parts.begin(), parts.begin() + r.lanes, by_address))
    std::sort(parts.begin(), parts.begin() + r.lanes, by_address);
  const bool load = r.access == Access::read, noted = ledger_open();
  std::int64_t bytes = 0, distinct_bytes = 0, sectors = 0;
  std::uintptr_t end = 0, next_sector = 0;  // behind what has been counted
  for (unsigned i = 0; i < r.lanes; ++i) {
    const Part& p = parts[i];
    bytes += p.bytes;
    const std::uintptr_t begin = std::max(p.address, end), stop = p.address + p.bytes;
    if (stop <= begin) continue;
    distinct_bytes += static_cast<std::int64_t>(stop - begin);
    end = stop;
    for (std::uintptr_t s = std::max(p.address / kSectorBytes, next_sector); s <= (stop - 1) / kSectorBytes;
         ++s) {
      ++sectors;
      next_sector = s + 1;
      if (noted) note_sector(s, load);
    }
  }
  const std::int64_t ideal = (distinct_bytes + static_cast<std::int64_t>(kSectorBytes) - 1) /
                             static_cast<std::int64_t>(kSectorBytes);
  add(load ? line.loads : line.stores, bytes, sectors, ideal);
  add(load ? tally.total.loads : tally.total.stores, bytes, sectors, ideal);
}

/// A request is served in phases of 32 lanes for up to 4 bytes, 16 for 8, 8 for 16; in one phase each bank
/// gives one word, to any number of lanes.
void count_shared(Tally& tally, Line& line, const Request& r) {
  std::int64_t waves = 0, ideal = 0;
  const unsigned width = std::max(4u, r.parts[0].bytes);
  const unsigned lanes_a_phase = kBanks * 4 / width;
  for (unsigned first = 0; first < r.lanes; first += lanes_a_phase) {
    std::array<std::uintptr_t, kWarp * 4> words;
    unsigned n = 0;
    for (unsigned i = first; i < std::min(first + lanes_a_phase, r.lanes); ++i) {
      const Part& p = r.parts[i];
      for (std::uintptr_t w = p.address / 4; w <= (p.address + p.bytes - 1) / 4 && n < words.size(); ++w)
        words[n++] = w;
    }
    n = distinct(words, n);
    std::array<unsigned, kBanks> load{};
    for (unsigned i = 0; i < n; ++i) ++load[words[i] % kBanks];
    waves += *std::max_element(load.begin(), load.end());
    ideal += (n + kBanks - 1) / kBanks;
  }
  for (SharedTraffic* t : {&line.shared, &tally.total.shared}) {
    ++t->requests;
    t->waves += waves;
    t->ideal_waves += ideal;
  }
}

void count_atomic(Tally& tally, Line& line, const Request& r) {
  line.atomics += r.lanes;
  if (r.shared) {
    tally.total.shared_atomics += r.lanes;
    return;
  }
  tally.total.atomics += r.lanes;
  std::array<std::uintptr_t, kWarp> addresses;
  for (unsigned i = 0; i < r.lanes; ++i) addresses[i] = r.parts[i].address;
  std::sort(addresses.begin(), addresses.begin() + r.lanes);
  std::int64_t most = 0, run = 0;
  for (unsigned i = 0; i < r.lanes; ++i) {
    run = i > 0 && addresses[i] == addresses[i - 1] ? run + 1 : 1;
    most = std::max(most, run);
  }
  tally.total.atomic_serial += most;
}

void count_request(Tally& tally, const Request& r, unsigned live_lanes) {
  Line& line = tally.by_pc[r.pc];
  line.active_lanes += r.lanes;
  if (r.lanes < live_lanes) ++tally.total.divergent_requests;
  if (r.access == Access::atomic) {
    count_atomic(tally, line, r);
  } else if (r.shared) {
    count_shared(tally, line, r);
  } else {
    count_global(tally, line, r);
  }
}

/// Puts the lanes' logs together. Lanes of a warp that ran the same instructions did so together; where they
/// went different ways, the n-th time that each ran an instruction counts as one request.
void count_warp(Tally& tally, const std::vector<Entry>* logs, unsigned lanes) {
  const auto part = [](const Entry& e) { return Part{e.address, e.bytes}; };
  const auto same_path = [](const std::vector<Entry>& a, const std::vector<Entry>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const Entry& x, const Entry& y) { return x.pc == y.pc; });
  };
  bool together = true;
  for (unsigned i = 1; i < lanes && together; ++i) together = same_path(logs[0], logs[i]);
  Request r;
  if (together) {
    for (std::size_t e = 0; e < logs[0].size(); ++e) {
      const Entry& first = logs[0][e];
      r = {first.pc, first.access, first.shared, lanes, {}};
      for (unsigned i = 0; i < lanes; ++i) r.parts[i] = part(logs[i][e]);
      count_request(tally, r, lanes);
    }
    return;
  }
  std::map<std::pair<std::uint32_t, std::uint32_t>, Request> requests;
  for (unsigned i = 0; i < lanes; ++i) {
    std::unordered_map<std::uint32_t, std::uint32_t> times;
    for (const Entry& e : logs[i]) {
      Request& q = requests[{e.pc, times[e.pc]++}];
      if (q.lanes >= kWarp) continue;
      q.pc = e.pc;
      q.access = e.access;
      q.shared = e.shared;
      q.parts[q.lanes++] = part(e);
    }
  }
  for (const auto& [key, request] : requests) count_request(tally, request, lanes);
}

void log(const Worker& w, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc,
         bool shared) {
  Counters& c = counters_state();
  if (!c.logging) return;
  std::vector<Entry>& entries = c.logs[w.current->linear];
  // Ranges longer than a vector access are several instructions.
  for (std::size_t at = 0; at < bytes; at += 16) {
    const auto n = static_cast<std::uint8_t>(std::min<std::size_t>(bytes - at, 16));
    entries.push_back({p + at, static_cast<std::uint32_t>(pc), n, access, shared});
  }
}

}  // namespace

void count_launch(const Grid& grid) {
  Counters& c = counters_state();
  const std::lock_guard lock(c.mutex);
  c.tally = &c.kernels[grid.name];
  KernelCounters& k = c.tally->total;
  k.kernel = grid.name;
  ++k.launches;
  k.blocks += static_cast<std::int64_t>(grid.blocks);
  k.threads += static_cast<std::int64_t>(grid.blocks * grid.threads);
  k.dynamic_shared = std::max(k.dynamic_shared, static_cast<std::int64_t>(grid.dynamic_shared));
  if (!ledger_open()) return;
  c.before = k;
  if (grid.checked) return;
  KernelCounters launch;
  launch.kernel = k.kernel;
  note_kernel(launch);
}

void count_end_of_grid() {
  if (!ledger_open()) return;
  Counters& c = counters_state();
  const std::lock_guard lock(c.mutex);
  const auto without = [](const Traffic& now, const Traffic& then) {
    return Traffic{now.requests - then.requests, now.bytes - then.bytes, now.sectors - then.sectors,
                   now.ideal_sectors - then.ideal_sectors};
  };
  const KernelCounters &now = c.tally->total, &then = c.before;
  KernelCounters launch;
  launch.kernel = now.kernel;
  launch.loads = without(now.loads, then.loads);
  launch.stores = without(now.stores, then.stores);
  launch.shared = {now.shared.requests - then.shared.requests, now.shared.waves - then.shared.waves,
                   now.shared.ideal_waves - then.shared.ideal_waves};
  launch.atomics = now.atomics - then.atomics;
  note_kernel(launch);
}

void log_begin_block(const Worker& w) {
  Counters& c = counters_state();
  c.logging = (!counting_only() || ledger_open()) && c.sampling > 0 &&
              c.blocks_seen++ % static_cast<std::uint64_t>(c.sampling) == 0;
  if (!c.logging) return;
  if (c.logs.size() < w.threads.size()) c.logs.resize(w.threads.size());
  for (auto& entries : c.logs) entries.clear();
}

void log_global(const Worker& w, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc) {
  log(w, p, bytes, access, pc, false);
}
void log_shared(const Worker& w, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc) {
  log(w, p, bytes, access, pc, true);
}

void log_end_block(const Worker& w) {
  Counters& c = counters_state();
  if (!c.logging) return;
  const std::lock_guard lock(c.mutex);
  ++c.tally->total.counted_blocks;
  const auto threads = static_cast<unsigned>(w.threads.size());
  for (unsigned first = 0; first < threads; first += kWarp)
    count_warp(*c.tally, &c.logs[first], std::min(kWarp, threads - first));
}

std::vector<KernelCounters> counters() {
  Counters& c = counters_state();
  const std::lock_guard lock(c.mutex);
  std::vector<KernelCounters> out;
  for (const auto& [name, tally] : c.kernels) {
    KernelCounters k = tally.total;
    std::map<std::string, LineCounters> lines;  // a line may be several instructions
    const auto merge = [](Traffic& to, const Traffic& t) {
      to.requests += t.requests;
      to.bytes += t.bytes;
      to.sectors += t.sectors;
      to.ideal_sectors += t.ideal_sectors;
    };
    for (const auto& [low, line] : tally.by_pc) {
      std::uintptr_t pc = 0;
      library_of_low(low, &pc);
      const std::string location = source_line(pc);
      LineCounters& to = lines[location];
      to.location = location;
      merge(to.loads, line.loads);
      merge(to.stores, line.stores);
      to.shared.requests += line.shared.requests;
      to.shared.waves += line.shared.waves;
      to.shared.ideal_waves += line.shared.ideal_waves;
      to.atomics += line.atomics;
      to.active_lanes += line.active_lanes;
    }
    for (auto& [location, line] : lines) k.lines.push_back(std::move(line));
    out.push_back(std::move(k));
  }
  return out;
}

void reset_counters() {
  Counters& c = counters_state();
  const std::lock_guard lock(c.mutex);
  c.kernels.clear();
  c.tally = nullptr;
  c.blocks_seen = 0;
}

void set_counter_sampling(int every) {
  const std::lock_guard lock(counters_state().mutex);
  counters_state().sampling = std::max(0, every);
}

}  // namespace cairn::emu
