#pragma once
/// How the walks of kernels/cuda/device/channel_walk.h are launched.
#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "kernels/cuda/device/channel_walk.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {

/// `width`: the channels of a thread, 1 or kWide<T>. There has to be a channel.
inline Walk walk_of(const Shape& shape, int width) {
  const int64_t channels = shape[shape.rank - 1];
  const int lanes = static_cast<int>(std::min<int64_t>(channels / width, kBlock));
  return {shape.numel() / channels, channels, lanes, static_cast<int>(kBlock) / lanes};
}
/// Blocks for the rows, and for the channels beyond a block's.
inline dim3 grid_of(const Walk& w, int width, int64_t rows_a_thread, int64_t most) {
  const int64_t tiles = (w.channels / width + w.lanes - 1) / w.lanes;
  const int64_t share = w.rows_per_block * rows_a_thread;
  return {static_cast<unsigned>(std::clamp<int64_t>((w.rows + share - 1) / share, 1, most)),
          static_cast<unsigned>(tiles)};
}
/// Blocks that share the rows of a sum: 32 rows a thread, so that its start and its partial sums weigh
/// little, and at most 512 blocks, about four for each SM of an H100.
inline int64_t splits_of(const Walk& w, int width) { return grid_of(w, width, 32, 512).x; }

/// One access is 16 bytes where the channels and all pointers allow it.
template <class T>
inline constexpr int kWide = 16 / static_cast<int>(sizeof(T));
template <class T>
bool is_wide(const Shape& shape, std::initializer_list<const void*> data) {
  return shape[shape.rank - 1] % kWide<T> == 0 && aligned_16(data);
}
/// f(std::integral_constant<int, width>)
template <class T, class F>
Status with_width(bool wide, F&& f) {
  if (wide) return f(std::integral_constant<int, kWide<T>>{});
  return f(std::integral_constant<int, 1>{});
}

template <int kWidth, class F>
Status launch_sums(const Queue& q, const Walk& walk, const F& f, double* partial) {
  return launch(&sums_kernel<kWidth, F>, dim3(grid_of(walk, kWidth, 32, 512)), dim3(kBlock), 0, stream_of(q),
                walk, f, partial);
}
template <class F>
Status launch_finish(const Queue& q, const Walk& walk, int width, double* partial, const F& f) {
  return launch(&finish_kernel<F>, dim3(grid_for(walk.channels, kColumns, 1u << 30)), dim3(kBlock), 0,
                stream_of(q), partial, static_cast<int>(splits_of(walk, width)), walk.channels, width, f);
}
template <int kWidth, class F>
Status launch_walk(const Queue& q, const Walk& walk, const F& f) {
  return launch(&walk_kernel<kWidth, F>, grid_of(walk, kWidth, 4, 132 * 32), dim3(kBlock), 0, stream_of(q),
                walk, f);
}

/// Doubles of scratch for the sums: for either width, since alignment is not known when size is asked.
inline std::size_t sums_doubles(const Shape& shape, int wide) {
  int64_t splits = splits_of(walk_of(shape, 1), 1);
  if (shape[shape.rank - 1] % wide == 0) splits = std::max(splits, splits_of(walk_of(shape, wide), wide));
  return static_cast<std::size_t>(2 * splits * shape[shape.rank - 1]);
}

}  // namespace cairn::kernels
