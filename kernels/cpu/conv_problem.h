#pragma once
#include <string>

#include "kernels/conv.h"
#include "kernels/cpu/onednn.h"

/// What oneDNN is told of a convolution.
namespace cairn::kernels::onednn {
using dnnl::memory;

/// Its logical order is N, C, H, W whatever the memory layout.
inline memory::desc nhwc_desc(const Shape& s, DType t) {
  return {{s[0], s[3], s[1], s[2]}, type_of(t), memory::format_tag::nhwc};
}
/// w [K,R,S,C/groups] in the order [K,C,R,S], or [G,K/G,C/G,R,S].
inline memory::dims weight_dims(const Shape& w, int groups) {
  if (groups == 1) return {w[0], w[3], w[1], w[2]};
  return {groups, w[0] / groups, w[3], w[1], w[2]};
}
inline memory::desc krsc_desc(const Shape& w, int groups) {
  const std::int64_t s = w[3], r = s * w[2], k = r * w[1];
  if (groups == 1) return {weight_dims(w, groups), memory::data_type::f32, {k, 1, r, s}};
  return {weight_dims(w, groups), memory::data_type::f32, {k * (w[0] / groups), k, 1, r, s}};
}
inline memory::desc bias_desc(bool wanted, std::int64_t k) {
  return wanted ? dense({k}, DType::f32) : memory::desc();
}

struct Geometry {
  explicit Geometry(const Conv2dGeometry& g)
      : strides{g.stride_h, g.stride_w},
        dilations{g.dilation_h - 1, g.dilation_w - 1},  // oneDNN counts a dilation of 1 as 0
        padding{g.padding_h, g.padding_w} {}
  memory::dims strides, dilations, padding;
};

/// What a convolution's primitive depends on. y stands for dy and x for dx in the backward passes.
struct Problem {
  DType dtype;
  Shape x, w, y;
  Conv2dGeometry geometry;

  memory::desc x_desc() const { return nhwc_desc(x, dtype); }
  memory::desc y_desc() const { return nhwc_desc(y, dtype); }
  memory::desc w_desc(DType t) const { return any_layout(weight_dims(w, geometry.groups), t); }
  bool empty() const { return x.numel() == 0 || y.numel() == 0 || w.numel() == 0; }
  std::string describe() const {
    const Conv2dGeometry& g = geometry;
    const auto pair = [](int h, int v) { return std::to_string(h) + 'x' + std::to_string(v); };
    return std::string(name_of(dtype)) + " x" + to_string(x) + " w" + to_string(w) + " y" + to_string(y) +
           " stride " + pair(g.stride_h, g.stride_w) + " padding " + pair(g.padding_h, g.padding_w) +
           " dilation " + pair(g.dilation_h, g.dilation_w) + " groups " + std::to_string(g.groups);
  }
};
inline Problem problem_of(const Conv2dForward& a) {
  return {a.dtype(), a.x.shape, a.w.shape, a.y.shape, a.geometry};
}
inline Problem problem_of(const Conv2dPack& a) { return problem_of(a.forward); }
inline Problem problem_of(const Conv2dBackwardData& a) {
  return {a.dtype(), a.dx.shape, a.w.shape, a.dy.shape, a.geometry};
}
inline Problem problem_of(const Conv2dBackwardWeight& a) {
  return {a.dtype(), a.x.shape, a.dw.shape, a.dy.shape, a.geometry};
}

enum Pass : std::int64_t { kForward, kBackwardData, kBackwardWeight };
inline Key key_of(Pass pass, const Problem& p) {
  const Conv2dGeometry& g = p.geometry;
  Key key;
  key << pass << static_cast<std::int64_t>(p.dtype) << p.x << p.w << p.y << g.stride_h << g.stride_w
      << g.padding_h << g.padding_w << g.dilation_h << g.dilation_w << g.groups;
  return key;
}

}  // namespace cairn::kernels::onednn
