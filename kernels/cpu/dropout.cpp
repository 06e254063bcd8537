#include "kernels/dropout.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include "kernels/cpu/simd_targets.h"
//
#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace cairn::kernels::HWY_NAMESPACE {
namespace {

// Philox 4x32-10 over lanes: as kernels/philox.h, one counter a 64-bit lane, of which the multiplier reads
// the low half only, so that the halves need no separating between rounds.
struct PhiloxLanes {
  using D = hn::ScalableTag<std::uint64_t>;
  using V = hn::Vec<D>;
  std::uint32_t key0, key1;
  std::uint64_t stream;

  // The words of counters [first, first + lanes), in order, 4 * lanes of them.
  HWY_INLINE void words(V lane_order, std::uint64_t first, std::uint32_t* out) const {
    const D d;
    const hn::ScalableTag<std::uint32_t> d32;
    const auto mul0 = hn::BitCast(d32, hn::Set(d, 0xD2511F53u));
    const auto mul1 = hn::BitCast(d32, hn::Set(d, 0xCD9E8D57u));
    V v0 = hn::Add(hn::Set(d, first), lane_order);
    V v1 = hn::ShiftRight<32>(v0);
    V v2 = hn::Set(d, stream & 0xFFFFFFFFu);
    V v3 = hn::Set(d, stream >> 32);
    std::uint32_t k0 = key0, k1 = key1;
    for (int round = 0; round < 10; ++round) {
      const V p0 = hn::MulEven(hn::BitCast(d32, v0), mul0);
      const V p1 = hn::MulEven(hn::BitCast(d32, v2), mul1);
      v0 = hn::Xor(hn::ShiftRight<32>(p1), hn::Xor(v1, hn::Set(d, k0)));
      v1 = p1;
      v2 = hn::Xor(hn::ShiftRight<32>(p0), hn::Xor(v3, hn::Set(d, k1)));
      v3 = p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    const auto v01 = hn::OddEven(hn::BitCast(d32, hn::ShiftLeft<32>(v1)), hn::BitCast(d32, v0));
    const auto v23 = hn::OddEven(hn::BitCast(d32, hn::ShiftLeft<32>(v3)), hn::BitCast(d32, v2));
    const V a = hn::BitCast(d, v01), b = hn::BitCast(d, v23);
    const auto n = hn::Lanes(d32);
    hn::StoreU(hn::BitCast(d32, hn::InterleaveLower(d, a, b)), d32, out);
    hn::StoreU(hn::BitCast(d32, hn::InterleaveUpper(d, a, b)), d32, out + n);
  }
  // Interleaving works in blocks of two lanes: lane 2i takes counter i, lane 2i+1 the i-th of the upper half.
  static V lane_order() {
    const D d;
    HWY_ALIGN std::uint64_t order[HWY_MAX_BYTES / sizeof(std::uint64_t)];
    const std::size_t n = hn::Lanes(d);
    for (std::size_t i = 0; i < n; ++i) order[i] = i / 2 + (i % 2) * (n / 2);
    return hn::Load(d, order);
  }
};

// Elements drawn at a time: their words (2 KiB) stay in the first cache.
constexpr std::int64_t kWords = 512;

template <class T>
void dropout_range(const Dropout& a, std::uint64_t stream, std::int64_t begin, std::int64_t end) {
  using C = ComputeOf<T>;
  const Tag<T> d;
  const hn::Rebind<std::uint32_t, Tag<T>> d32;
  const T* x = a.x.as<T>();
  T* y = a.y.as<T>();
  const auto threshold = static_cast<std::uint32_t>(static_cast<double>(a.p) * 4294967296.0);  // p < 1
  const auto limit = hn::Set(d32, threshold);
  const auto scale = hn::Set(d, C(1) / (C(1) - static_cast<C>(a.p)));
  const PhiloxLanes philox{static_cast<std::uint32_t>(a.seed), static_cast<std::uint32_t>(a.seed >> 32),
                           stream};
  const auto order = PhiloxLanes::lane_order();
  const auto step = static_cast<std::int64_t>(hn::Lanes(PhiloxLanes::D()));
  // Room for the words before the first wanted one and for whole vectors past the last.
  HWY_ALIGN std::uint32_t words[kWords + 2 * HWY_MAX_BYTES];
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t n = std::min(kWords, end - i);
    const std::int64_t index = a.first_index + i;
    const std::int64_t skip = index % 4, counters = (skip + n + 3) / 4;
    for (std::int64_t c = 0; c < counters; c += step)
      philox.words(order, static_cast<std::uint64_t>(index / 4 + c), words + 4 * c);
    const std::uint32_t* w = words + skip;
    for_each_vector(d, 0, n, [&](std::int64_t j, auto part) HWY_ATTR {
      const auto drop = hn::Lt(hn::LoadU(d32, w + j), limit);
      auto v = hn::Mul(scale, load(d, x + i + j, part));
      if constexpr (sizeof(C) == 4) {
        v = hn::IfThenZeroElse(hn::RebindMask(d, drop), v);
      } else {
        const hn::Rebind<std::int64_t, Tag<T>> d64;
        const auto wide =
            hn::PromoteTo(d64, hn::BitCast(hn::Rebind<std::int32_t, Tag<T>>(), hn::VecFromMask(d32, drop)));
        v = hn::IfThenZeroElse(hn::MaskFromVec(hn::BitCast(d, wide)), v);
      }
      land(d, v, y + i + j, part, a.write);
    });
    i += n;
  }
}

Status dropout_cpu(const Queue&, const Dropout& a) {
  const std::uint64_t step = a.step ? static_cast<std::uint64_t>(a.step.as<std::int64_t>()[0]) : 0;
  const std::uint64_t stream = a.stream + (step << 32);
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) {
    parallel_elements(a.x.numel(), [&](std::int64_t begin, std::int64_t end, int) {
      dropout_range<T>(a, stream, begin, end);
    });
  });
  return {};
}

}  // namespace
}  // namespace cairn::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cairn::kernels {
namespace {
CAIRN_CPU_SIMD_FILL(dropout, dropout_cpu);
}
}  // namespace cairn::kernels
#endif
