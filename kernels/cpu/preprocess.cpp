#include "kernels/preprocess.h"

#include <cstring>

#include "kernels/cpu/fill.h"
#include "kernels/cpu/parallel.h"

namespace cairn::kernels {
namespace {

// A byte has 256 values: each channel's results are worked out once, in double, and looked up.
template <class T>
void preprocess_of(const Preprocess& a) {
  const std::int64_t height = a.y.shape[1], width = a.y.shape[2], channels = a.y.shape[3];
  T table[3][256];
  for (int c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v) {
      const double y = (v / 255.0 - static_cast<double>(a.mean[c])) / static_cast<double>(a.std[c]);
      if constexpr (std::is_same_v<T, double>)
        table[c][v] = y;
      else
        table[c][v] = T(static_cast<float>(y));
    }
  const auto* flip = a.flip.as<std::uint8_t>();
  const auto* index = a.index.as<std::int32_t>();
  const auto* crop = a.crop.as<std::int32_t>();
  const std::int64_t x_height = a.x.shape[1], x_width = a.x.shape[2];
  parallel_for(a.y.shape[0] * height, std::max<std::int64_t>(1, 8192 / (width * channels)),
               [&](std::int64_t begin, std::int64_t end, int) {
                 for (std::int64_t row = begin; row < end; ++row) {
                   const std::int64_t image = row / height;
                   const bool mirror = flip && flip[image] != 0;
                   const std::int64_t top = crop ? crop[2 * image] : 0, left = crop ? crop[2 * image + 1] : 0;
                   const std::int64_t from =
                       (index ? index[image] : image) * x_height + row - image * height + top;
                   const std::uint8_t* x = a.x.as<std::uint8_t>() + (from * x_width + left) * 3;
                   const std::int64_t step = mirror ? -3 : 3;
                   if (mirror) x += (width - 1) * 3;
                   T* y = a.y.as<T>() + row * width * channels;
                   for (std::int64_t w = 0; w < width; ++w, x += step, y += channels) {
                     y[0] = table[0][x[0]];
                     y[1] = table[1][x[1]];
                     y[2] = table[2][x[2]];
                     for (std::int64_t c = 3; c < channels; ++c) y[c] = T{};
                   }
                 }
               });
}

Status preprocess_cpu(const Queue&, const Preprocess& a) {
  if (a.y.numel() == 0) return {};
  with_compute_type(a.dtype(), [&]<class T>(TypeTag<T>) { preprocess_of<T>(a); });
  return {};
}
const FillCpu kFill{preprocess, &preprocess_cpu};

}  // namespace
}  // namespace cairn::kernels
