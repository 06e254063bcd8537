#pragma once
/// What a stretch of work moves, operation by operation: the ground of docs/ledger.md and of `cairn kernels`.
/// Bytes of kernels are seen with checked kernels only; calls of cuDNN and cuBLASLt and copies always.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/emu/emu.h"

namespace cairn::emu {

/// One operation as it ran.
struct LedgerEntry {
  enum class Kind : std::uint8_t { kernel, library, copy };
  Kind kind = Kind::kernel;
  /// Kernels: as kernel_name(). Libraries: pass and geometry, "conv fprop 64x56x56 3x3/1 -> 64x56x56".
  /// Copies: "copy" or "fill".
  std::string name;
  /// Bytes that memory has to give and take at least once. Kernels: distinct 32-byte sectors of the whole
  /// grid, as if caches held all that its threads share. Libraries: each operand once, of a strided 1x1
  /// filter only the pixels that it meets.
  std::int64_t read = 0, written = 0;
  Traffic loads{}, stores{};  // kernels, request by request
  SharedTraffic shared{};
  std::int64_t atomics = 0;
  double flops = 0;  // library calls: a multiplication and an addition are two
};
const char* name_of(LedgerEntry::Kind kind);

/// From here on what runs is written down, until end_ledger() hands it out, in the order it ran.
void begin_ledger();
std::vector<LedgerEntry> end_ledger();

/// While it is on, the device counts and computes nothing that costs time: memory starts as zeros, races and
/// uninitialised reads are not looked for, results of libraries' calls are zeros, and outside a ledger one
/// block of each grid runs. Values are meaningless; addresses, and so traffic, are those of a real run, since
/// no kernel's addresses depend on values. For steps at full size.
void set_counting_only(bool on);
bool counting_only();

/// For the libraries' stand-ins, when a call runs. False if its arithmetic is to be left out.
bool note_library_call(const std::string& name, std::int64_t read, std::int64_t written, double flops);

// ---- sums ----

/// The entries of one name.
struct LedgerRow {
  LedgerEntry::Kind kind = LedgerEntry::Kind::kernel;
  std::string name;  // kernels without namespaces
  std::int64_t launches = 0;
  std::int64_t read = 0, written = 0;
  std::int64_t sectors = 0, ideal_sectors = 0;  // kernels: of all requests
  std::int64_t waves = 0, ideal_waves = 0;      // of shared memory
  double flops = 0;

  std::int64_t moved() const { return read + written; }
  /// 1 where every sector that was asked for is used whole.
  double sector_efficiency() const;
};
/// By kind and name.
std::vector<LedgerRow> ledger_rows(std::span<const LedgerEntry> entries);
/// "walk_kernel<8, ApplyForward<bf16>>"
std::string short_kernel_name(const std::string& name);

}  // namespace cairn::emu
