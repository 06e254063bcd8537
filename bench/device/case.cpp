#include "bench/device/case.h"

#include "kernels/philox.h"

namespace cairn::bench {

Tensor values(const Shape& shape, DType dtype, Device device, std::uint64_t seed) {
  std::vector<double> v(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < v.size(); i += 4) {
    const auto words = philox(seed, 0, i / 4);
    for (std::size_t k = 0; k < std::min<std::size_t>(v.size() - i, 4); ++k)
      v[i + k] = (static_cast<double>(words.v[k] % 127) - 63) / 64;
  }
  return from_doubles(shape, v, dtype, device);
}

}  // namespace cairn::bench
