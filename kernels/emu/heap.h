#pragma once
/// The emulated device's memory; emu.h has what the rest of the program calls.
#include <cstddef>
#include <cstdint>
#include <string>

namespace cairn::emu {

/// At a fixed address, so that "is it device memory" is one comparison in every instrumented access.
inline constexpr std::uintptr_t kHeapBase = 0x2000'0000'0000;
inline constexpr std::size_t kHeapBytes = std::size_t{64} << 30;
inline constexpr std::size_t kPageBytes = 4096;
inline constexpr int kPoison = 0xFF;  // NaN in f64, f32, bf16 and f16; -1 in integers

inline bool in_heap(std::uintptr_t p) { return p - kHeapBase < kHeapBytes; }

struct Allocation {
  std::uintptr_t begin = 0;
  std::size_t bytes = 0;
  std::uintptr_t pages = 0;  // first page; the page behind the last one faults
  std::size_t page_bytes = 0;
  bool live = true;

  bool contains(std::uintptr_t p, std::size_t n) const {
    return p >= begin && n <= bytes && p - begin <= bytes - n;
  }
};

/// The live allocation on whose pages `p` lies, or null. Lock-free: called for each instrumented access.
const Allocation* allocation_at(std::uintptr_t p);
/// "4 bytes behind the 4000 bytes allocated at 0x..." and whether the memory was freed before.
struct AddressFacts {
  std::string text;
  bool freed = false;
};
AddressFacts describe_address(std::uintptr_t p);

/// Maps a page of poison over a faulting one, so that the kernel can go on, until close_pages().
bool open_page(std::uintptr_t p);
void close_pages();

}  // namespace cairn::emu
