#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define CAIRN_HOST_DEVICE __host__ __device__
#else
#define CAIRN_HOST_DEVICE
#endif

namespace cairn {

/// Four 32-bit words: a Philox counter, or a block of Philox output.
struct Philox4x32 {
  uint32_t v[4];
};

/// Philox 4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
/// easy as 1, 2, 3" (SC 2011). A pure function: the same counter and key give the same four words anywhere.
CAIRN_HOST_DEVICE inline Philox4x32 philox4x32_10(Philox4x32 counter, uint32_t key0, uint32_t key1) {
  constexpr uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u;    // multipliers of the paper, table 2
  constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;  // golden ratio, sqrt(3) - 1
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * counter.v[0];
    const uint64_t p1 = uint64_t{kMul1} * counter.v[2];
    counter = Philox4x32{{static_cast<uint32_t>(p1 >> 32) ^ counter.v[1] ^ key0, static_cast<uint32_t>(p1),
                          static_cast<uint32_t>(p0 >> 32) ^ counter.v[3] ^ key1, static_cast<uint32_t>(p0)}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

/// What random numbers are drawn for. Two uses never share a stream, so that adding a draw to one leaves the
/// others' numbers alone. Never renumber: runs would no longer repeat.
enum PhiloxStream : uint32_t {
  kStreamInit = 1,
  kStreamDropout = 2,
  kStreamSplit = 3,
  kStreamShuffle = 4,
  kStreamOversample = 5,
  kStreamAugment = 6,
  kStreamMix = 7,
  kStreamGradcheck = 8,
  kStreamBootstrap = 9,
};

/// Stream number of one use at one time, e.g. (kStreamShuffle, epoch): `sub` has 56 bits.
CAIRN_HOST_DEVICE inline uint64_t philox_stream(PhiloxStream use, uint64_t sub) {
  return (sub << 8) | static_cast<uint64_t>(use);
}

/// Four random words for (seed, stream, index): key = seed, counter = (index low, high, stream low, high).
CAIRN_HOST_DEVICE inline Philox4x32 philox(uint64_t seed, uint64_t stream, uint64_t index) {
  return philox4x32_10(Philox4x32{{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                   static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)}},
                       static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

/// Uniform in [0, 1): the top 24 bits of a word, each of which a float holds exactly.
CAIRN_HOST_DEVICE inline float uniform_float(uint32_t word) {
  return static_cast<float>(word >> 8) * (1.0f / 16777216.0f);
}

/// Uniform in [0, n) from one word, by multiply and shift; the bias is at most n / 2^32.
CAIRN_HOST_DEVICE inline uint32_t uniform_below(uint32_t word, uint32_t n) {
  return static_cast<uint32_t>((uint64_t{word} * n) >> 32);
}

}  // namespace cairn
