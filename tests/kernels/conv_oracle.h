#pragma once
#include <cmath>
#include <string>
#include <vector>

#include "kernels/conv.h"
#include "tests/kernels/sums.h"

namespace cairn::kernels {

struct ConvCase {
  Shape x, w;
  Conv2dGeometry g;
  Shape y() const {
    return {x[0], (x[1] + 2 * g.padding_h - g.dilation_h * (w[1] - 1) - 1) / g.stride_h + 1,
            (x[2] + 2 * g.padding_w - g.dilation_w * (w[2] - 1) - 1) / g.stride_w + 1, w[0]};
  }
  std::string name() const { return "x" + to_string(x) + " w" + to_string(w); }
};

/// All three passes from the definition, scattered from one loop over the products. `norm` is the root of the
/// sum of squares of what was summed: rounding errors scale with it.
struct ConvOracle {
  std::vector<double> y, dx, dw, y_norm, dx_norm, dw_norm;
  ConvOracle(const ConvCase& c, const std::vector<double>& x, const std::vector<double>& w,
             const std::vector<double>& dy) {
    const Shape ys = c.y();
    y.resize(dy.size());
    dx.resize(x.size());
    dw.resize(w.size());
    y_norm = y, dx_norm = dx, dw_norm = dw;
    const std::int64_t group_k = c.w[0] / c.g.groups, group_c = c.w[3];
    for (std::int64_t n = 0; n < c.x[0]; ++n)
      for (std::int64_t p = 0; p < ys[1]; ++p)
        for (std::int64_t q = 0; q < ys[2]; ++q)
          for (std::int64_t k = 0; k < ys[3]; ++k)
            for (std::int64_t r = 0; r < c.w[1]; ++r)
              for (std::int64_t s = 0; s < c.w[2]; ++s) {
                const std::int64_t h = p * c.g.stride_h + r * c.g.dilation_h - c.g.padding_h;
                const std::int64_t v = q * c.g.stride_w + s * c.g.dilation_w - c.g.padding_w;
                if (h < 0 || v < 0 || h >= c.x[1] || v >= c.x[2]) continue;
                for (std::int64_t j = 0; j < group_c; ++j) {
                  const auto yi = static_cast<std::size_t>(((n * ys[1] + p) * ys[2] + q) * ys[3] + k);
                  const auto xi = static_cast<std::size_t>(((n * c.x[1] + h) * c.x[2] + v) * c.x[3] +
                                                           k / group_k * group_c + j);
                  const auto wi = static_cast<std::size_t>(((k * c.w[1] + r) * c.w[2] + s) * group_c + j);
                  add(y, y_norm, yi, x[xi] * w[wi]);
                  add(dx, dx_norm, xi, dy[yi] * w[wi]);
                  add(dw, dw_norm, wi, dy[yi] * x[xi]);
                }
              }
    for (auto* v : {&y_norm, &dx_norm, &dw_norm})
      for (double& e : *v) e = std::sqrt(e);
  }
  static void add(std::vector<double>& sum, std::vector<double>& squares, std::size_t i, double term) {
    sum[i] += term;
    squares[i] += term * term;
  }
};

}  // namespace cairn::kernels
