// Warp functions: lanes that name one mask meet, exchange values and go on.
#include <algorithm>
#include <bit>
#include <climits>

#include "kernels/emu/report.h"
#include "kernels/emu/worker.h"

namespace cairn::emu {
namespace {

std::string lanes_text(unsigned lanes) {
  std::string out;
  for (unsigned i = 0; i < kWarp; ++i) {
    if (!(lanes >> i & 1)) continue;
    unsigned last = i;
    while (last + 1 < kWarp && (lanes >> (last + 1) & 1)) ++last;
    out += (out.empty() ? "" : ",") + std::to_string(i) + (last > i ? "-" + std::to_string(last) : "");
    i = last;
  }
  return out;
}

bool is_shuffle(WarpOp op) {
  return op == WarpOp::shuffle || op == WarpOp::shuffle_up || op == WarpOp::shuffle_down ||
         op == WarpOp::shuffle_xor;
}

/// Lane that `lane` reads from, as the PTX ISA defines shfl.sync (its "b" keeps 5 bits); `lane` itself where
/// the source lies outside its segment of `width` lanes.
unsigned source_lane(WarpOp op, unsigned lane, int argument, int width) {
  const auto b = static_cast<unsigned>(argument) & 31u;
  const auto segment = ~(static_cast<unsigned>(width) - 1u) & 31u;
  const unsigned first = lane & segment;
  const unsigned last = first | (static_cast<unsigned>(width) - 1u);
  switch (op) {
    case WarpOp::shuffle:
      return first | (b & ~segment);
    case WarpOp::shuffle_up:
      return lane >= first + b ? lane - b : lane;
    case WarpOp::shuffle_down:
      return lane + b <= last ? lane + b : lane;
    default:  // xor: earlier segments can be read, later ones cannot
      return (lane ^ b) <= last ? lane ^ b : lane;
  }
}

template <class T, class Fold>
std::uint64_t fold(const WarpMeeting& m, T start, Fold&& f) {
  for (unsigned i = 0; i < kWarp; ++i)
    if (m.arrived >> i & 1) start = f(start, static_cast<T>(m.values[i]));
  return static_cast<std::uint32_t>(start);
}

}  // namespace

std::uint64_t Worker::warp_op(WarpOp op, unsigned mask, std::uint64_t value, int lane_argument, int width,
                              const Where& where) {
  Thread& self = *current;
  Warp& warp = warps[self.warp()];
  const unsigned lane = self.lane();
  if (!(mask >> lane & 1)) {
    add_report({.defect = Defect::warp_mask,
                .location = text_of(where),
                .message = "lane " + std::to_string(lane) + " is not in the mask it gives (lanes " +
                           lanes_text(mask) + ") at " + text_of(where)});
    return kPoisonWord;
  }
  if (width <= 0 || width > static_cast<int>(kWarp) || !std::has_single_bit(static_cast<unsigned>(width))) {
    add_report({.defect = Defect::warp_mask,
                .location = text_of(where),
                .message = "shuffle width " + std::to_string(width) + " is not a power of two up to 32 at " +
                           text_of(where)});
    return kPoisonWord;
  }

  const auto found = std::find_if(warp.open.begin(), warp.open.end(), [&](const WarpMeeting* m) {
    return m->mask == mask && !(m->arrived >> lane & 1);
  });
  WarpMeeting* m = nullptr;
  if (found != warp.open.end()) {
    m = *found;
    if (m->op != op) {
      add_report({.defect = Defect::warp_mask,
                  .location = text_of(where),
                  .message = "the lanes of one mask (" + lanes_text(mask) +
                             ") call different warp functions; this one at " + text_of(where)});
    }
  } else {
    if (free_meetings_.empty()) free_meetings_.push_back(new WarpMeeting);
    m = free_meetings_.back();
    free_meetings_.pop_back();
    m->op = op;
    m->mask = mask;
    m->arrived = 0;
    m->complete = false;
    warp.open.push_back(m);
  }
  m->values[lane] = value;
  m->arrived |= 1u << lane;
  self.where = where;
  self.state = ThreadState::in_warp_op;
  if ((mask & warp.exists & ~warp.done & ~m->arrived) == 0) {
    self.state = ThreadState::running;
    complete(warp, m);
  } else {
    park();
  }
  const std::uint64_t result = result_of(*m, warp, lane, lane_argument, width, where);
  if (--m->unread == 0) free_meetings_.push_back(m);
  return result;
}

void Worker::complete(Warp& warp, WarpMeeting* m) {
  std::erase(warp.open, m);
  m->complete = true;
  m->unread = static_cast<unsigned>(std::popcount(m->arrived));
  Thread* lanes = &threads[static_cast<std::size_t>(&warp - warps.data()) * kWarp];
  std::uint32_t syncs = 0;
  for (unsigned i = 0; i < kWarp; ++i) {
    const unsigned lane = grid->order == Order::reverse ? kWarp - 1 - i : i;
    if (!(m->arrived >> lane & 1)) continue;
    syncs = std::max(syncs, lanes[lane].warp_syncs);
    if (lanes[lane].state == ThreadState::in_warp_op) make_ready(&lanes[lane]);
  }
  if (m->op != WarpOp::sync) return;  // nothing else orders memory
  for (unsigned i = 0; i < kWarp; ++i)
    if (m->arrived >> i & 1) lanes[i].warp_syncs = syncs + 1;
}

void Worker::recheck_meetings(unsigned warp_index) {
  Warp& warp = warps[warp_index];
  for (std::size_t i = 0; i < warp.open.size();) {
    WarpMeeting* m = warp.open[i];
    if ((m->mask & warp.exists & ~warp.done & ~m->arrived) == 0) {
      complete(warp, m);
    } else {
      ++i;
    }
  }
}

std::uint64_t Worker::result_of(const WarpMeeting& m, const Warp& warp, unsigned lane, int argument,
                                int width, const Where& where) {
  if (is_shuffle(m.op)) {
    const unsigned source = source_lane(m.op, lane, argument, width);
    if (m.arrived >> source & 1) return m.values[source];
    const char* why = !(warp.exists >> source & 1) ? "the block does not have"
                      : !(m.mask >> source & 1)    ? "is not in the mask"
                      : warp.done >> source & 1    ? "has returned"
                                                   : "did not come";
    add_report({.defect = Defect::warp_mask,
                .location = text_of(where),
                .message = "lane " + std::to_string(lane) + " reads from lane " + std::to_string(source) +
                           ", which " + why + ": the value is undefined, at " + text_of(where)});
    return kPoisonWord;
  }
  const auto matching = [&](std::uint64_t value) {
    unsigned out = 0;
    for (unsigned i = 0; i < kWarp; ++i)
      if ((m.arrived >> i & 1) && m.values[i] == value) out |= 1u << i;
    return out;
  };
  switch (m.op) {
    case WarpOp::ballot:
      return matching(1);
    case WarpOp::match_any:
      return matching(m.values[lane]);
    case WarpOp::match_all:
      return matching(m.values[lane]) == m.arrived ? m.arrived : 0;
    case WarpOp::add:
      return fold<std::uint32_t>(m, 0, [](auto a, auto b) { return a + b; });
    case WarpOp::min_unsigned:
      return fold<std::uint32_t>(m, UINT_MAX, [](auto a, auto b) { return std::min(a, b); });
    case WarpOp::max_unsigned:
      return fold<std::uint32_t>(m, 0, [](auto a, auto b) { return std::max(a, b); });
    case WarpOp::min_signed:
      return fold<std::int32_t>(m, INT_MAX, [](auto a, auto b) { return std::min(a, b); });
    case WarpOp::max_signed:
      return fold<std::int32_t>(m, INT_MIN, [](auto a, auto b) { return std::max(a, b); });
    case WarpOp::bit_and:
      return fold<std::uint32_t>(m, UINT_MAX, [](auto a, auto b) { return a & b; });
    case WarpOp::bit_or:
      return fold<std::uint32_t>(m, 0, [](auto a, auto b) { return a | b; });
    case WarpOp::bit_xor:
      return fold<std::uint32_t>(m, 0, [](auto a, auto b) { return a ^ b; });
    default:
      return 0;
  }
}

void Worker::resolve_deadlock() {
  // Were all live threads at the barrier, it would be complete: so some warp function waits for lanes that
  // wait elsewhere. A device would hang; here the function goes on without them.
  for (Warp& warp : warps) {
    if (warp.open.empty()) continue;
    WarpMeeting* m = warp.open.front();
    const std::size_t first = static_cast<std::size_t>(&warp - warps.data()) * kWarp;
    const unsigned missing = m->mask & warp.exists & ~warp.done & ~m->arrived;
    const Thread& waiting = threads[first + static_cast<unsigned>(std::countr_zero(m->arrived))];
    const Thread& absent = threads[first + static_cast<unsigned>(std::countr_zero(missing))];
    Report report =
        report_of(waiting, Defect::warp_mask, text_of(waiting.where),
                  "lanes " + lanes_text(m->arrived) + " wait for lanes " + lanes_text(missing) +
                      " of their mask, which wait at " + text_of(absent.where) + ": a device would hang");
    report.other = text_of(absent.where);
    add_report(std::move(report));
    complete(warp, m);
    return;
  }
}

// ---- what kernels call ----

std::uint64_t warp_exchange(WarpOp op, unsigned mask, std::uint64_t value, int lane, int width,
                            const Where& where) {
  return this_worker().warp_op(op, mask, value, lane, width, where);
}
int block_barrier(BarrierVote vote, int predicate, const Where& where) {
  return this_worker().barrier(vote, predicate, where);
}
unsigned active_mask() noexcept {
  // Which lanes run together is not defined; one lane alone is the answer that trusts in nothing.
  return 1u << this_worker().current->lane();
}
void* dynamic_shared() noexcept { return reinterpret_cast<void*>(this_worker().dynamic.begin); }
void yield_thread() noexcept { this_worker().yield(); }
void memory_fence(bool beyond_block) noexcept {
  Worker& w = this_worker();
  if (beyond_block) w.current->fenced_at = w.barriers + 1;
}
void trap(const Where& where) {
  add_report({.defect = Defect::invalid_address,
              .location = text_of(where),
              .message = "__trap() at " + text_of(where)});
  this_worker().abandon_thread();
}
uint3 checked_thread_idx() noexcept { return this_thread.thread_idx; }
uint3 checked_block_idx() noexcept { return this_thread.block_idx; }
dim3 checked_block_dim() noexcept { return this_thread.block_dim; }
dim3 checked_grid_dim() noexcept { return this_thread.grid_dim; }

}  // namespace cairn::emu
