// y[r,c] = c < C ? x[r,c] : 0, x [rows,C], y [rows,C'].
// Bytes: x and y once. One thread an element of y: neighbours read and write neighbouring addresses, so each
// warp's access is of whole sectors but for the padding. Limited by memory; serves a network's first layer
// only (3 channels to 8), 1 % of a training step's traffic.
#include "kernels/cuda/pad_channels.h"

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

template <class From, class To>
__global__ void pad_channels_kernel(const From* x,  // [rows,from_channels]
                                    To* y,          // [rows,to_channels]
                                    int64_t elements, int from_channels, int to_channels, bool add) {
  for (int64_t i = grid_start(); i < elements; i += grid_stride()) {
    const int64_t row = i / to_channels;
    const int c = static_cast<int>(i - row * to_channels);
    float value = c < from_channels ? to_float(x[row * from_channels + c]) : 0.0f;
    if (add) value += to_float(y[i]);
    y[i] = from_float<To>(value);
  }
}

Status pad_channels_cuda(const Queue& queue, const PadChannels& a) {
  const int64_t elements = a.y.numel();
  if (elements == 0) return {};
  return with_compute_type(a.y.dtype, [&](auto to) {
    using To = typename decltype(to)::type;
    return with_compute_type(a.x.dtype, [&](auto from) {
      using From = typename decltype(from)::type;
      return launch(&pad_channels_kernel<From, To>, dim3(grid_for(elements)), dim3(kBlock), 0,
                    stream_of(queue), a.x.as<From>(), a.y.as<To>(), elements,
                    static_cast<int>(a.x.shape[a.x.shape.rank - 1]),
                    static_cast<int>(a.y.shape[a.y.shape.rank - 1]), a.write == Write::add);
    });
  });
}

const FillCuda kFill{pad_channels, &pad_channels_cuda};

}  // namespace
}  // namespace cairn::kernels
