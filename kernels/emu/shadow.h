#pragma once
/// The record of accesses to four bytes of memory.
#include <cstdint>

namespace cairn::emu {

/// Who made an access: 64 bits, so that a cell of four records stays small. Barrier and sync numbers are kept
/// modulo 1024 and 64: two accesses that many apart in one block would look concurrent, if nothing came
/// between them.
struct Who {
  std::uint64_t bits = 0;

  Who() = default;
  Who(std::uint32_t run, std::uint32_t thread, std::uint32_t barrier, std::uint32_t syncs, bool atomic,
      bool write, unsigned bytes)
      : bits(std::uint64_t{run} | std::uint64_t{thread & 1023} << 32 | std::uint64_t{barrier & 1023} << 42 |
             std::uint64_t{syncs & 63} << 52 | std::uint64_t{atomic} << 58 | std::uint64_t{write} << 59 |
             std::uint64_t{bytes & 15} << 60) {}

  explicit operator bool() const { return bits != 0; }
  std::uint32_t run() const { return static_cast<std::uint32_t>(bits); }
  std::uint32_t thread() const { return bits >> 32 & 1023; }
  std::uint32_t barrier() const { return bits >> 42 & 1023; }
  std::uint32_t syncs() const { return bits >> 52 & 63; }
  bool atomic() const { return bits >> 58 & 1; }
  bool write() const { return bits >> 59 & 1; }
  unsigned bytes() const { return static_cast<unsigned>(bits >> 60); }
  Who with_bytes(unsigned mask) const {
    Who out = *this;
    out.bits = (bits & ~(std::uint64_t{15} << 60)) | std::uint64_t{mask} << 60;
    return out;
  }
};

/// Room for the writers of two halves and two distinct readers: a later write conflicts with at least one
/// reader that is not its own thread, if there is any.
struct Cell {
  static constexpr int kRecords = 4;
  Who who[kRecords];
  std::uint32_t pc[kRecords];  // low halves
  std::uint32_t written;  // bit per byte; shared memory: above them the block's run, so that cells go stale
};

}  // namespace cairn::emu
