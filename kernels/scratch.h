#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/view.h"

namespace cairn::kernels {

/// Cuts a block of scratch into aligned pieces. Without a block it only counts: the pieces are distinct
/// addresses that nobody may touch.
class Scratch {
 public:
  explicit Scratch(void* base = nullptr)
      : base_(base ? reinterpret_cast<std::uintptr_t>(base) : kAlign), next_(base_) {}
  void* take(std::size_t bytes) {
    void* piece = reinterpret_cast<void*>(next_);
    next_ += (bytes + kAlign - 1) / kAlign * kAlign;
    return piece;
  }
  View take_view(DType type, const Shape& shape) {
    return {take(size_of(type) * static_cast<std::size_t>(shape.numel())), type, shape};
  }
  /// A place for the fp32 copy of v; absent if v is.
  View take_fp32(const ConstView& v) { return v ? take_view(DType::f32, v.shape) : View{}; }
  std::size_t used() const { return next_ - base_; }

 private:
  static constexpr std::size_t kAlign = 256;  // as device memory: at least a cache line and any vector
  std::uintptr_t base_, next_;
};

}  // namespace cairn::kernels
