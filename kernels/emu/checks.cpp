#include "kernels/emu/checks.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>

#include "kernels/emu/counters.h"
#include "kernels/emu/heap.h"
#include "kernels/emu/ledger.h"
#include "kernels/emu/report.h"
#include "kernels/emu/shadow.h"
#include "kernels/emu/worker.h"
#include "kernels/error.h"

namespace cairn::emu {
namespace {

constexpr std::uintptr_t kShadowBase = 0x3000'0000'0000;
constexpr std::size_t kCellsPerPage = kPageBytes / 4;

/// A kernel, copy, fill or free, with the runs (blocks; one for a copy) that were made under it.
struct Operation {
  std::uint32_t first_run = 0;
  std::uint32_t id = 0;  // as the runtime names it; 0: it did not say
  std::string name;
  dim3 grid{}, block{};  // kernels
};

/// Blocks that released what they had written (a fence, then an atomic on this address), in order.
struct Release {
  struct Entry {
    std::uint32_t order, barrier;
  };
  std::unordered_map<std::uint32_t, Entry> by_run;
};

struct State {
  std::mutex mutex;
  bool mapped = false;
  std::uint32_t next_run = 1;
  std::vector<Operation> operations;
  // The operation under way, where the runtime told.
  std::uint32_t current_id = 0;
  std::string current_name;
  std::function<bool(std::uint32_t)> ordered_after;
  std::unordered_map<std::uint32_t, bool> ordered;  // answers so far
  // The grid under way.
  const Grid* grid = nullptr;
  std::uint32_t grid_first_run = 0;
  std::unordered_map<std::uintptr_t, Release> releases;
  struct Acquired {
    const Release* release;
    std::uint32_t count;
  };
  std::vector<Acquired> acquired;  // by the block under way
  std::vector<Cell> static_cells, dynamic_cells;
  std::uintptr_t last_address = 0;
  std::size_t last_bytes = 0;
  std::map<std::uintptr_t, std::size_t> host_ranges;
};

State& state() {
  static auto& s = *new State;
  return s;
}

Cell* heap_cell(std::uintptr_t p) { return reinterpret_cast<Cell*>(kShadowBase) + (p - kHeapBase) / 4; }

void map_shadow(State& s) {
  if (s.mapped) return;
  void* wanted = reinterpret_cast<void*>(kShadowBase);
  void* got = mmap(wanted, kHeapBytes / 4 * sizeof(Cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != wanted)
    throw Error("[emulated device] cannot reserve addresses for the checks; raise `ulimit -v`");
  s.mapped = true;
}

Operation& begin_op(State& s, std::uint32_t runs, std::string name) {
  // Runs of long finished operations stay in memory's records; the table keeps them all, at some 100 bytes
  // each.
  s.operations.push_back({s.next_run, s.current_id, std::move(name)});
  s.next_run += runs;
  return s.operations.back();
}

const Operation* operation_of(const State& s, std::uint32_t run) {
  auto it = std::upper_bound(s.operations.begin(), s.operations.end(), run,
                             [](std::uint32_t r, const Operation& o) { return r < o.first_run; });
  return it == s.operations.begin() ? nullptr : &*std::prev(it);
}

/// Whether everything of an earlier operation is complete before the one under way.
bool complete_before(State& s, std::uint32_t run) {
  if (!s.ordered_after) return true;
  const Operation* op = operation_of(s, run);
  if (!op || op->id == 0 || op->id == s.current_id) return true;
  const auto [it, fresh] = s.ordered.try_emplace(op->id, false);
  if (fresh) it->second = s.ordered_after(op->id);
  return it->second;
}

bool acquired(const State& s, const Who& other) {
  return std::any_of(s.acquired.begin(), s.acquired.end(), [&](const State::Acquired& a) {
    const auto it = a.release->by_run.find(other.run());
    return it != a.release->by_run.end() && it->second.order < a.count &&
           other.barrier() <= it->second.barrier;
  });
}

/// Whether `earlier` is ordered before `now`, an access of the operation under way.
bool ordered(State& s, const Who& earlier, const Who& now) {
  if (earlier.run() == now.run()) {
    if (earlier.thread() == now.thread() || earlier.barrier() != now.barrier()) return true;
    return earlier.thread() / kWarp == now.thread() / kWarp && earlier.syncs() != now.syncs();
  }
  if (s.grid && earlier.run() >= s.grid_first_run) return acquired(s, earlier);
  return complete_before(s, earlier.run());
}

std::string kind_of(const Who& who) { return who.atomic() ? "atomic" : who.write() ? "write" : "read"; }

std::string place_of(const State& s, const Who& who) {
  const Operation* op = operation_of(s, who.run());
  if (!op || op->block.x == 0) return op ? op->name : "";
  const std::uint32_t b = who.run() - op->first_run, t = who.thread();
  return op->name + " block " +
         text_of({b % op->grid.x, b / op->grid.x % op->grid.y, b / op->grid.x / op->grid.y}) + " thread " +
         text_of({t % op->block.x, t / op->block.x % op->block.y, t / op->block.x / op->block.y});
}

std::uintptr_t full_pc(std::uint32_t low) {
  std::uintptr_t full = 0;
  library_of_low(low, &full);
  return full;
}

void report_conflict(const State& s, const Who& earlier, std::uint32_t earlier_pc, const Who& now,
                     std::uintptr_t pc, const char* memory) {
  const bool other_operation = s.grid ? earlier.run() < s.grid_first_run : true;
  const Defect defect = other_operation ? Defect::stream_order : Defect::race;
  if (count_repeated(defect, pc, earlier_pc)) return;
  const std::uintptr_t other_pc = full_pc(earlier_pc);
  const std::string other = other_pc ? source_line(other_pc) : "";
  Report report{.defect = defect, .location = pc ? source_line(pc) : "", .other = other};
  if (!pc) report.kernel = s.current_name;
  report.message = kind_of(now) + " of " + memory + " memory not ordered after the " + kind_of(earlier) +
                   (other.empty() ? "" : " at " + other) + " by " + place_of(s, earlier);
  add_report(std::move(report), pc, earlier_pc);
}

/// Holds the access against the cell's records and adds it to them.
void record(State& s, Cell& cell, const Who& now, std::uintptr_t pc, const char* memory) {
  int free = -1, replace = -1, any_read = -1;
  for (int i = 0; i < Cell::kRecords; ++i) {
    const Who& old = cell.who[i];
    if (!old) {
      if (free < 0) free = i;
      continue;
    }
    const bool covers = (old.bytes() & ~now.bytes()) == 0;
    if ((old.bytes() & now.bytes()) == 0) continue;
    if (!old.write() && !now.write()) {
      // Readers that a later write cannot conflict with any more, or that this one stands for.
      if (covers && (ordered(s, old, now))) replace = i;
      any_read = i;
      continue;
    }
    if (ordered(s, old, now)) {
      if (now.write() && covers) {
        if (replace >= 0) cell.who[i] = Who();
        replace = replace >= 0 ? replace : i;
      }
      continue;
    }
    if (!(old.atomic() && now.atomic())) report_conflict(s, old, cell.pc[i], now, pc, memory);
    if (now.write() && covers) replace = i;
  }
  const int slot = replace >= 0 ? replace : free >= 0 ? free : any_read >= 0 ? any_read : Cell::kRecords - 1;
  cell.who[slot] = now;
  cell.pc[slot] = static_cast<std::uint32_t>(pc);
}

/// Byte mask of [p, p+bytes) within the four bytes at `granule`.
unsigned byte_mask(std::uintptr_t granule, std::uintptr_t p, std::size_t bytes) {
  unsigned mask = 0;
  for (unsigned i = 0; i < 4; ++i)
    if (granule + i >= p && granule + i < p + bytes) mask |= 1u << i;
  return mask;
}

template <class Visit>
void for_each_granule(std::uintptr_t p, std::size_t bytes, Visit&& visit) {
  if (((p | bytes) & 3) == 0) {
    for (std::uintptr_t g = p; g < p + bytes; g += 4) visit(g, 15u);
  } else {
    for (std::uintptr_t g = p & ~std::uintptr_t{3}; g < p + bytes; g += 4) visit(g, byte_mask(g, p, bytes));
  }
}

void report_access(Defect defect, std::uintptr_t pc, const std::string& message) {
  add_report({.defect = defect, .location = source_line(pc), .message = message}, pc, 0);
}

std::string access_text(Access access, std::size_t bytes) {
  return (access == Access::read    ? "read of "
          : access == Access::write ? "write of "
                                    : "atomic on ") +
         std::to_string(bytes) + " bytes";
}

Who who_is(const Worker& w, Access access) {
  return {w.block_run,
          w.current->linear,
          w.barriers,
          w.current->warp_syncs,
          access == Access::atomic,
          access != Access::read,
          0};
}

void check_granules(State& s, Cell* first, std::uintptr_t base, std::uintptr_t p, std::size_t bytes,
                    Access access, std::uintptr_t pc, const Worker& w, bool shared) {
  if (counting_only()) return;
  const Who who = who_is(w, access);
  const std::uint32_t tag = shared ? w.block_run << 4 : 0;
  const char* memory = shared ? "shared" : "global";
  for_each_granule(p, bytes, [&](std::uintptr_t granule, unsigned mask) {
    Cell& cell = first[(granule - base) / 4];
    if (shared && (cell.written & ~15u) != tag) {
      cell = Cell{};
      cell.written = tag;
    }
    if (access != Access::write && (cell.written & mask) != mask) {
      if (!count_repeated(Defect::uninitialised, pc, 0)) {
        report_access(Defect::uninitialised, pc,
                      access_text(access, bytes) + " of " + memory + " memory that nobody has written");
      }
    }
    cell.written |= mask;
    record(s, cell, who.with_bytes(mask), pc, memory);
  });
}

void check_heap(State& s, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc,
                const Worker& w) {
  const Allocation* a = allocation_at(p);
  if (a && a->contains(p, bytes)) {
    log_global(w, p, bytes, access, pc);
    check_granules(s, heap_cell(kHeapBase), kHeapBase, p, bytes, access, pc, w, false);
    return;
  }
  const AddressFacts facts = describe_address(p);
  const Defect defect = facts.freed ? Defect::use_after_free : Defect::out_of_bounds;
  if (!count_repeated(defect, pc, 0))
    report_access(defect, pc, access_text(access, bytes) + ", " + facts.text);
}

bool host_range_allowed(const State& s, std::uintptr_t p, std::size_t bytes) {
  auto it = s.host_ranges.upper_bound(p);
  if (it == s.host_ranges.begin()) return false;
  --it;
  return p + bytes <= it->first + it->second;
}

/// Neither device memory nor the thread's own.
void check_elsewhere(State& s, std::uintptr_t p, std::size_t bytes, Access access, std::uintptr_t pc,
                     const Worker& w) {
  if (p < kPageBytes) return;  // a null pointer: the fault names it
  const auto& pack = w.grid->call->arguments();
  const auto arguments = reinterpret_cast<std::uintptr_t>(pack.data());
  if (p >= arguments && p < arguments + pack.size()) return;
  if (library_of(p)) return;  // __constant__ and __device__ variables
  if (w.arena.contains(p)) {
    if (!count_repeated(Defect::out_of_bounds, pc, 0)) {
      report_access(Defect::out_of_bounds, pc,
                    access_text(access, bytes) + " outside the launch's " +
                        std::to_string(w.grid->dynamic_shared) + " bytes of dynamic shared memory");
    }
    return;
  }
  if (host_range_allowed(s, p, bytes)) return;
  const Fiber* other = w.fibers.find(reinterpret_cast<const void*>(p));
  const Defect defect = other ? Defect::foreign_local : Defect::host_pointer;
  if (count_repeated(defect, pc, 0)) return;
  report_access(defect, pc,
                access_text(access, bytes) + (other ? " in another thread's local memory"
                                                    : " in host memory: a kernel was given a host pointer"));
}

}  // namespace

void checks_begin_grid(const Grid& grid) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  map_shadow(s);
  Operation& op = begin_op(s, static_cast<std::uint32_t>(grid.blocks), grid.name);
  op.grid = grid.size;
  op.block = grid.block;
  s.grid = &grid;
  s.grid_first_run = op.first_run;
  s.releases.clear();
  s.static_cells.resize((grid.library->tls_bytes + 3) / 4 + 1);
  s.dynamic_cells.resize((grid.dynamic_shared + 3) / 4 + 1);
}

void checks_end_grid() {
  state().grid = nullptr;
  count_end_of_grid();
}

void checks_begin_block(Worker& w, std::uint64_t linear_block) {
  State& s = state();
  w.block_run = s.grid_first_run + static_cast<std::uint32_t>(linear_block);
  s.acquired.clear();
  log_begin_block(w);
}

void checks_end_block(Worker& w) { log_end_block(w); }

void check_access(std::uintptr_t p, std::size_t bytes, Access access, bool aligned, std::uintptr_t pc) {
  Worker* w = kernel_worker();
  if (!w || w->current->fiber->contains(reinterpret_cast<const void*>(p))) return;
  State& s = state();
  s.last_address = p;
  s.last_bytes = bytes;
  if (aligned && (p & (bytes - 1)) != 0 && !count_repeated(Defect::misaligned, pc, 0)) {
    report_access(Defect::misaligned, pc,
                  access_text(access, bytes) + " at an address that is " + std::to_string(p & (bytes - 1)) +
                      " bytes off a multiple of " + std::to_string(bytes));
  }
  if (in_heap(p)) {
    check_heap(s, p, bytes, access, pc, *w);
  } else if (w->segment.contains(p)) {
    log_shared(*w, p, bytes, access, pc);
    check_granules(s, s.static_cells.data(), w->segment.begin & ~std::uintptr_t{3}, p, bytes, access, pc, *w,
                   true);
  } else if (p >= w->dynamic.begin && p + bytes <= w->dynamic.end) {
    log_shared(*w, p, bytes, access, pc);
    check_granules(s, s.dynamic_cells.data(), w->dynamic.begin, p, bytes, access, pc, *w, true);
  } else {
    check_elsewhere(s, p, bytes, access, pc, *w);
  }
}

void check_atomic(const volatile void* p, std::size_t bytes, std::uintptr_t return_address) {
  Worker* w = kernel_worker();
  if (!w || !w->grid->checked) return;
  State& s = state();
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  // Acquire before, release after: what this block did so far, up to its thread's last fence, is there for
  // blocks that come to this address later.
  if (in_heap(address)) {
    Release& release = s.releases[address];
    const auto count = static_cast<std::uint32_t>(release.by_run.size());
    const auto known = std::find_if(s.acquired.begin(), s.acquired.end(),
                                    [&](const State::Acquired& a) { return a.release == &release; });
    if (known == s.acquired.end()) {
      s.acquired.push_back({&release, count});
    } else {
      known->count = count;
    }
    if (w->current->fenced_at > 0)
      release.by_run.insert_or_assign(w->block_run,
                                      Release::Entry{count, (w->current->fenced_at - 1) & 1023});
  }
  check_access(address, bytes, Access::atomic, true, return_address - 1);
}

bool already_checked(std::uintptr_t p) {
  const State& s = state();
  return p >= s.last_address && p < s.last_address + s.last_bytes;
}

void shadow_host_access(const void* pointer, std::size_t bytes, bool write) {
  State& s = state();
  if (bytes == 0 || !any_library_checked() || counting_only()) return;
  const std::lock_guard lock(s.mutex);
  map_shadow(s);
  const bool track = static_cast<bool>(s.ordered_after);
  const Operation& op = begin_op(
      s, 1, s.current_name.empty() ? (write ? "copy to the device" : "copy to the host") : s.current_name);
  const Who who(op.first_run, 0, 0, 0, false, write, 0);
  bool unwritten = false;
  for_each_granule(reinterpret_cast<std::uintptr_t>(pointer), bytes, [&](std::uintptr_t g, unsigned mask) {
    Cell& cell = *heap_cell(g);
    unwritten = unwritten || (!write && (cell.written & mask) != mask);
    cell.written |= mask;
    if (track) record(s, cell, who.with_bytes(mask), 0, "global");
  });
  if (unwritten) {
    add_report({.defect = Defect::uninitialised,
                .kernel = op.name,
                .message = "copies bytes to the host that nobody has written"});
  }
}

void shadow_copy(const void* to, const void* from, std::size_t bytes) {
  State& s = state();
  if (bytes == 0 || !any_library_checked() || counting_only()) return;
  const std::lock_guard lock(s.mutex);
  map_shadow(s);
  const bool track = static_cast<bool>(s.ordered_after);
  const Operation& op = begin_op(s, 1, "copy on the device");
  const auto source = reinterpret_cast<std::uintptr_t>(from), target = reinterpret_cast<std::uintptr_t>(to);
  std::vector<bool> written(bytes);
  for_each_granule(source, bytes, [&](std::uintptr_t g, unsigned mask) {
    Cell& cell = *heap_cell(g);
    for (unsigned i = 0; i < 4; ++i)
      if (mask >> i & 1) written[g + i - source] = cell.written >> i & 1;
    if (track) record(s, cell, Who(op.first_run, 0, 0, 0, false, false, mask), 0, "global");
  });
  for_each_granule(target, bytes, [&](std::uintptr_t g, unsigned mask) {
    Cell& cell = *heap_cell(g);
    for (unsigned i = 0; i < 4; ++i) {
      if (!(mask >> i & 1)) continue;
      cell.written = (cell.written & ~(1u << i)) | static_cast<std::uint32_t>(written[g + i - target]) << i;
    }
    if (track) record(s, cell, Who(op.first_run, 0, 0, 0, false, true, mask), 0, "global");
  });
}

void shadow_free(const Allocation& a) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  if (!s.mapped) return;
  if (s.ordered_after) {
    const Operation& op = begin_op(s, 1, s.current_name);
    for_each_granule(a.begin, a.bytes, [&](std::uintptr_t g, unsigned mask) {
      record(s, *heap_cell(g), Who(op.first_run, 0, 0, 0, false, true, mask), 0, "global");
    });
  }
  madvise(heap_cell(a.pages), a.page_bytes / kPageBytes * kCellsPerPage * sizeof(Cell), MADV_DONTNEED);
}

void begin_operation(std::uint32_t id, const char* name, std::function<bool(std::uint32_t)> ordered_after) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.current_id = id;
  s.current_name = name;
  s.ordered_after = std::move(ordered_after);
  s.ordered.clear();
}

void end_operation() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.current_id = 0;
  s.current_name.clear();
  s.ordered_after = nullptr;
}

void allow_host_range(const void* p, std::size_t bytes) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.host_ranges[reinterpret_cast<std::uintptr_t>(p)] = bytes;
}

void forget_host_range(const void* p) {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.host_ranges.erase(reinterpret_cast<std::uintptr_t>(p));
}

}  // namespace cairn::emu
