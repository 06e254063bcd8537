#include "tests/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace cairn::reference {
namespace {

/// Calls f with every index of the shape, as four numbers counted from the last axis backwards being dense.
void each_index(const Shape& s,
                const std::function<void(const std::vector<std::int64_t>&, std::int64_t)>& f) {
  std::vector<std::int64_t> index(static_cast<std::size_t>(s.rank), 0);
  for (std::int64_t flat = 0; flat < s.numel(); ++flat) {
    std::int64_t rest = flat;
    for (int a = s.rank - 1; a >= 0; --a) {
      index[static_cast<std::size_t>(a)] = rest % s[a];
      rest /= s[a];
    }
    f(index, flat);
  }
}

std::int64_t flat_of(const Shape& s, const std::vector<std::int64_t>& index) {
  std::int64_t flat = 0;
  for (int a = 0; a < s.rank; ++a) flat = flat * s[a] + index[static_cast<std::size_t>(a)];
  return flat;
}

}  // namespace

Array conv2d(const Array& x, const Array& w, const Array* bias, const kernels::Conv2dGeometry& g) {
  const std::int64_t N = x.shape[0], H = x.shape[1], W = x.shape[2];
  const std::int64_t K = w.shape[0], R = w.shape[1], S = w.shape[2], Cg = w.shape[3];
  const std::int64_t P = (H + 2 * g.padding_h - g.dilation_h * (R - 1) - 1) / g.stride_h + 1;
  const std::int64_t Q = (W + 2 * g.padding_w - g.dilation_w * (S - 1) - 1) / g.stride_w + 1;
  Array y({N, P, Q, K});
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t p = 0; p < P; ++p)
      for (std::int64_t q = 0; q < Q; ++q)
        for (std::int64_t k = 0; k < K; ++k) {
          double sum = bias ? bias->at(k) : 0.0;
          const std::int64_t group = k / (K / g.groups);
          for (std::int64_t r = 0; r < R; ++r)
            for (std::int64_t s = 0; s < S; ++s) {
              const std::int64_t h = p * g.stride_h - g.padding_h + r * g.dilation_h;
              const std::int64_t v = q * g.stride_w - g.padding_w + s * g.dilation_w;
              if (h < 0 || h >= H || v < 0 || v >= W) continue;
              for (std::int64_t c = 0; c < Cg; ++c) sum += x.at(n, h, v, group * Cg + c) * w.at(k, r, s, c);
            }
          y.at(n, p, q, k) = sum;
        }
  return y;
}

Array matmul(const Array& a, const Array& b) {
  const std::int64_t B = std::max(a.shape[0], b.shape[0]), M = a.shape[1], K = a.shape[2], N = b.shape[2];
  Array y({B, M, N});
  for (std::int64_t i = 0; i < B; ++i)
    for (std::int64_t m = 0; m < M; ++m)
      for (std::int64_t n = 0; n < N; ++n) {
        double sum = 0;
        for (std::int64_t k = 0; k < K; ++k)
          sum += a.at(((a.shape[0] == 1 ? 0 : i) * M + m) * K + k) *
                 b.at(((b.shape[0] == 1 ? 0 : i) * K + k) * N + n);
        y.at((i * M + m) * N + n) = sum;
      }
  return y;
}

Array linear(const Array& x, const Array& w, const Array* bias) {
  Array y({x.shape[0], w.shape[0]});
  for (std::int64_t n = 0; n < x.shape[0]; ++n)
    for (std::int64_t k = 0; k < w.shape[0]; ++k) {
      double sum = bias ? bias->at(k) : 0.0;
      for (std::int64_t c = 0; c < x.shape[1]; ++c)
        sum += x.at(n * x.shape[1] + c) * w.at(k * x.shape[1] + c);
      y.at(n * w.shape[0] + k) = sum;
    }
  return y;
}

Array batch_norm_inference(const Array& x, const Array& gamma, const Array& beta, const Array& mean,
                           const Array& var, double eps) {
  const std::int64_t C = x.shape[x.shape.rank - 1];
  Array y(x.shape);
  for (std::int64_t i = 0; i < x.shape.numel(); ++i) {
    const std::int64_t c = i % C;
    y.at(i) = gamma.at(c) * (x.at(i) - mean.at(c)) / std::sqrt(var.at(c) + eps) + beta.at(c);
  }
  return y;
}

Array batch_norm(const Array& x, const Array& gamma, const Array& beta, double eps, Array* mean_out,
                 Array* var_out) {
  const std::int64_t C = x.shape[x.shape.rank - 1], M = x.shape.numel() / C;
  Array mean({C}), var({C});
  for (std::int64_t i = 0; i < x.shape.numel(); ++i) mean.at(i % C) += x.at(i) / static_cast<double>(M);
  for (std::int64_t i = 0; i < x.shape.numel(); ++i) {
    const double d = x.at(i) - mean.at(i % C);
    var.at(i % C) += d * d / static_cast<double>(M);
  }
  if (mean_out) *mean_out = mean;
  if (var_out) *var_out = var;
  return batch_norm_inference(x, gamma, beta, mean, var, eps);
}

Array map(const Array& x, const std::function<double(double)>& f) {
  Array y(x.shape);
  std::transform(x.values.begin(), x.values.end(), y.values.begin(), f);
  return y;
}

Array zip(const Array& a, const Array& b, const std::function<double(double, double)>& f) {
  const int rank = std::max(a.shape.rank, b.shape.rank);
  const auto length = [&](const Array& t, int axis) {
    const int own = axis - (rank - t.shape.rank);
    return own < 0 ? std::int64_t{1} : t.shape[own];
  };
  Shape shape;
  shape.rank = rank;
  for (int i = 0; i < rank; ++i) shape[i] = length(a, i) == 1 ? length(b, i) : length(a, i);
  Array y(shape);
  each_index(shape, [&](const std::vector<std::int64_t>& index, std::int64_t flat) {
    const auto pick = [&](const Array& t) {
      std::int64_t at = 0;
      for (int i = 0; i < rank; ++i) {
        const std::int64_t n = length(t, i);
        at = at * n + (n == 1 ? 0 : index[static_cast<std::size_t>(i)]);
      }
      return t.at(at);
    };
    y.at(flat) = f(pick(a), pick(b));
  });
  return y;
}

namespace {
/// Calls f(output index, window values, number of places inside the padded window) for each window.
Array pool(const Array& x, const kernels::Pool2dGeometry& g,
           const std::function<double(const std::vector<double>&)>& f) {
  const std::int64_t N = x.shape[0], H = x.shape[1], W = x.shape[2], C = x.shape[3];
  const std::int64_t P = (H + 2 * g.padding_h - g.kernel_h) / g.stride_h + 1;
  const std::int64_t Q = (W + 2 * g.padding_w - g.kernel_w) / g.stride_w + 1;
  Array y({N, P, Q, C});
  for (std::int64_t n = 0; n < N; ++n)
    for (std::int64_t p = 0; p < P; ++p)
      for (std::int64_t q = 0; q < Q; ++q)
        for (std::int64_t c = 0; c < C; ++c) {
          std::vector<double> window;
          for (std::int64_t r = 0; r < g.kernel_h; ++r)
            for (std::int64_t s = 0; s < g.kernel_w; ++s) {
              const std::int64_t h = p * g.stride_h - g.padding_h + r, w = q * g.stride_w - g.padding_w + s;
              if (h >= 0 && h < H && w >= 0 && w < W) window.push_back(x.at(n, h, w, c));
            }
          y.at(n, p, q, c) = f(window);
        }
  return y;
}
}  // namespace

Array max_pool2d(const Array& x, const kernels::Pool2dGeometry& g) {
  return pool(x, g, [](const std::vector<double>& w) { return *std::max_element(w.begin(), w.end()); });
}

Array avg_pool2d(const Array& x, const kernels::Pool2dGeometry& g, bool count_include_pad) {
  return pool(x, g, [&](const std::vector<double>& w) {
    double sum = 0;
    for (const double v : w) sum += v;
    return sum / (count_include_pad ? g.kernel_h * g.kernel_w : static_cast<double>(w.size()));
  });
}

Array global_avg_pool(const Array& x) {
  Array y({x.shape[0], x.shape[3]});
  const std::int64_t pixels = x.shape[1] * x.shape[2], C = x.shape[3];
  for (std::int64_t i = 0; i < x.shape.numel(); ++i)
    y.at(i / (pixels * C) * C + i % C) += x.at(i) / static_cast<double>(pixels);
  return y;
}

Array fold(const Array& x, const std::vector<int>& axes, double start,
           const std::function<double(double, double)>& f) {
  const auto gone = [&](int a) {
    return axes.empty() || std::find(axes.begin(), axes.end(), a) != axes.end();
  };
  Shape shape;
  for (int a = 0; a < x.shape.rank; ++a)
    if (!gone(a)) shape[shape.rank++] = x.shape[a];
  Array y(shape);
  std::fill(y.values.begin(), y.values.end(), start);
  each_index(x.shape, [&](const std::vector<std::int64_t>& index, std::int64_t flat) {
    std::vector<std::int64_t> kept;
    for (int a = 0; a < x.shape.rank; ++a)
      if (!gone(a)) kept.push_back(index[static_cast<std::size_t>(a)]);
    double& cell = y.at(flat_of(shape, kept));
    cell = f(cell, x.at(flat));
  });
  return y;
}

Array permute(const Array& x, const std::vector<int>& order) {
  Shape shape = x.shape;
  for (int a = 0; a < x.shape.rank; ++a) shape[a] = x.shape[order[static_cast<std::size_t>(a)]];
  Array y(shape);
  each_index(shape, [&](const std::vector<std::int64_t>& index, std::int64_t flat) {
    std::vector<std::int64_t> from(index.size());
    for (std::size_t a = 0; a < index.size(); ++a) from[static_cast<std::size_t>(order[a])] = index[a];
    y.at(flat) = x.at(flat_of(x.shape, from));
  });
  return y;
}

Array softmax_cross_entropy(const Array& logits, const CrossEntropy& o) {
  const std::int64_t N = logits.shape[0], C = logits.shape[1];
  double total = 0, weight = 0;
  for (std::int64_t n = 0; n < N; ++n) {
    double z = 0;
    for (std::int64_t c = 0; c < C; ++c) z += std::exp(logits.at(n * C + c));
    const auto log_p = [&](std::int64_t c) { return logits.at(n * C + c) - std::log(z); };
    const auto w = [&](std::int64_t c) {
      return o.class_weights.empty() ? 1.0 : o.class_weights[static_cast<std::size_t>(c)];
    };
    const auto one_label = [&](int label, double share) {
      for (std::int64_t c = 0; c < C; ++c) {
        const double t =
            (c == label ? 1 - o.label_smoothing : 0.0) + o.label_smoothing / static_cast<double>(C);
        total -= share * t * w(c) * log_p(c) * std::pow(1 - std::exp(log_p(label)), o.focal_gamma);
      }
      weight += share * w(label);
    };
    const double share = o.labels2.empty() ? 1.0 : o.lambda[static_cast<std::size_t>(n)];
    one_label(o.labels[static_cast<std::size_t>(n)], share);
    if (!o.labels2.empty()) one_label(o.labels2[static_cast<std::size_t>(n)], 1 - share);
  }
  Array loss({1});
  loss.at(0) = total / weight;
  return loss;
}

std::vector<double> numeric_gradient(const std::function<double(const std::vector<double>&)>& f,
                                     std::vector<double> x, double h) {
  std::vector<double> gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = x[i];
    x[i] = at + h;
    const double up = f(x);
    x[i] = at - h;
    const double down = f(x);
    x[i] = at;
    gradient[i] = (up - down) / (2 * h);
  }
  return gradient;
}

}  // namespace cairn::reference
