// Beside the kernels: the loop that one would write first, one thread, what the compiler makes of it. Shapes
// as in the other files, in fp32, so that the rows stand together; checked against cairn's kernel before it
// is timed.
#include <limits>

#include "bench/kernels/bench.h"
#include "kernels/batch_norm.h"
#include "kernels/loss.h"
#include "kernels/optimizer.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"

namespace cairn::bench {
namespace {

using namespace kernels;

void add_plain(const std::string& op, const Shape& shape, const Job& ours, Buffer& our_result, Job plain,
               Buffer& plain_result, float tolerance, std::shared_ptr<void> keep, double bytes) {
  require_equal(op, ours, our_result, plain, plain_result, tolerance);
  add_row(row_name(op, shape, DType::f32) + "plain", std::move(plain), std::move(keep), bytes);
}

struct Four {
  explicit Four(const Shape& s)
      : x(DType::f32, s, 1), dy(DType::f32, s, 2), y(DType::f32, s), other(DType::f32, s) {}
  Buffer x, dy, y, other;
};

void add_relu(const Shape& s) {
  const auto k = std::make_shared<Four>(s);
  const float *x = k->x.view().as<float>(), *dy = k->dy.view().as<float>();
  float* out = k->other.view().as<float>();
  const std::int64_t n = s.numel();
  const double bytes = static_cast<double>(k->x.bytes());
  add_plain(
      "relu_forward", s, cairn_job(relu_forward, ReluForward{k->x.view(), k->y.view()}), k->y,
      [=] {
        for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] > 0 ? x[i] : 0;
      },
      k->other, 0, k, 2 * bytes);
  add_plain(
      "relu_backward", s, cairn_job(relu_backward, ReluBackward{k->x.view(), k->dy.view(), k->y.view()}),
      k->y,
      [=] {
        for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] > 0 ? dy[i] : 0;
      },
      k->other, 0, k, 3 * bytes);
}

void add_batch_norm(const Shape& s) {
  struct Tensors : Four {
    explicit Tensors(const Shape& shape)
        : Four(shape),
          gamma(DType::f32, {shape[3]}, 3),
          beta(DType::f32, {shape[3]}, 4),
          mean(DType::f32, {shape[3]}),
          inv_std(DType::f32, {shape[3]}) {}
    Buffer gamma, beta, mean, inv_std;
  };
  const auto k = std::make_shared<Tensors>(s);
  const float *x = k->x.view().as<float>(), *gamma = k->gamma.view().as<float>(),
              *beta = k->beta.view().as<float>();
  float* out = k->other.view().as<float>();
  const std::int64_t channels = s[3], rows = s.numel() / channels;
  add_plain(
      "batch_norm_relu_forward", s,
      cairn_job(batch_norm_forward, BatchNormForward{.x = k->x.view(),
                                                     .gamma = k->gamma.view(),
                                                     .beta = k->beta.view(),
                                                     .residual = {},
                                                     .y = k->y.view(),
                                                     .mean = k->mean.view(),
                                                     .inv_std = k->inv_std.view(),
                                                     .running_mean = {},
                                                     .running_var = {},
                                                     .activation = Activation::relu}),
      k->y,
      [=] {
        for (std::int64_t c = 0; c < channels; ++c) {
          double sum = 0, squares = 0;
          for (std::int64_t r = 0; r < rows; ++r) sum += static_cast<double>(x[r * channels + c]);
          const double mean = sum / static_cast<double>(rows);
          for (std::int64_t r = 0; r < rows; ++r)
            squares += std::pow(static_cast<double>(x[r * channels + c]) - mean, 2);
          const auto scale = static_cast<float>(static_cast<double>(gamma[c]) /
                                                std::sqrt(squares / static_cast<double>(rows) + 1e-5));
          for (std::int64_t r = 0; r < rows; ++r)
            out[r * channels + c] =
                std::max((x[r * channels + c] - static_cast<float>(mean)) * scale + beta[c], 0.0f);
        }
      },
      k->other, tolerance_of(DType::f32), k, 3.0 * static_cast<double>(k->x.bytes()));
}

void add_max_pool(const Shape& in, const Pool2dGeometry& g) {
  const Shape out{in[0], (in[1] + 2 * g.padding_h - g.kernel_h) / g.stride_h + 1,
                  (in[2] + 2 * g.padding_w - g.kernel_w) / g.stride_w + 1, in[3]};
  struct Tensors {
    Tensors(const Shape& i, const Shape& o)
        : x(DType::f32, i, 1), y(DType::f32, o), other(DType::f32, o), index(DType::u8, o) {}
    Buffer x, y, other, index;
  };
  const auto k = std::make_shared<Tensors>(in, out);
  const float* x = k->x.view().as<float>();
  float* y = k->other.view().as<float>();
  auto* index = k->index.view().as<std::uint8_t>();
  add_plain(
      "max_pool_" + std::to_string(g.kernel_h) + "x" + std::to_string(g.kernel_w) + "_forward", in,
      cairn_job(max_pool2d_forward, MaxPool2dForward{k->x.view(), k->y.view(), k->index.view(), g}), k->y,
      [=] {
        for (std::int64_t n = 0, o = 0; n < out[0]; ++n)
          for (std::int64_t p = 0; p < out[1]; ++p)
            for (std::int64_t q = 0; q < out[2]; ++q)
              for (std::int64_t c = 0; c < out[3]; ++c, ++o) {
                float best = -std::numeric_limits<float>::infinity();
                for (int r = 0; r < g.kernel_h; ++r)
                  for (int s = 0; s < g.kernel_w; ++s) {
                    const std::int64_t h = p * g.stride_h - g.padding_h + r,
                                       w = q * g.stride_w - g.padding_w + s;
                    if (h < 0 || h >= in[1] || w < 0 || w >= in[2]) continue;
                    const float v = x[((n * in[1] + h) * in[2] + w) * in[3] + c];
                    if (v > best) {
                      best = v;
                      index[o] = static_cast<std::uint8_t>(r * g.kernel_w + s);
                    }
                  }
                y[o] = best;
              }
      },
      k->other, 0, k, static_cast<double>(k->x.bytes() + k->y.bytes() + k->index.bytes()));
}

void add_softmax(const Shape& s) {
  const auto k = std::make_shared<Four>(s);
  const float* x = k->x.view().as<float>();
  float* out = k->other.view().as<float>();
  add_plain(
      "softmax", s, cairn_job(softmax, Softmax{k->x.view(), k->y.view()}), k->y,
      [=] {
        for (std::int64_t n = 0; n < s[0]; ++n) {
          const float* row = x + n * s[1];
          float largest = row[0], sum = 0;
          for (std::int64_t c = 1; c < s[1]; ++c) largest = std::max(largest, row[c]);
          for (std::int64_t c = 0; c < s[1]; ++c) sum += out[n * s[1] + c] = std::exp(row[c] - largest);
          for (std::int64_t c = 0; c < s[1]; ++c) out[n * s[1] + c] /= sum;
        }
      },
      k->other, 1e-5f, k, 2.0 * static_cast<double>(k->x.bytes()));
}

void add_sgd(const Shape& s) {
  struct Tensors {
    explicit Tensors(const Shape& shape)
        : param(DType::f32, shape, 1),
          grad(DType::f32, shape, 2),
          momentum(DType::f32, shape, 3),
          other(DType::f32, shape, 1),
          other_momentum(DType::f32, shape, 3) {}
    Buffer param, grad, momentum, other, other_momentum;
    StepScalars scalars{.lr = 1e-6f, .step = 10};
  };
  const auto k = std::make_shared<Tensors>(s);
  const float* g = k->grad.view().as<float>();
  float *p = k->other.view().as<float>(), *m = k->other_momentum.view().as<float>();
  const std::int64_t n = s.numel();
  add_plain(
      "sgd_momentum", s,
      cairn_job(sgd_step, SgdStep{.param = k->param.view(),
                                  .grad = k->grad.view(),
                                  .momentum_buffer = k->momentum.view(),
                                  .shadow = {},
                                  .scalars = &k->scalars,
                                  .grad_norm = {},
                                  .nonfinite = {},
                                  .momentum = 0.9f,
                                  .weight_decay = 1e-4f}),
      k->param,
      [=] {
        for (std::int64_t i = 0; i < n; ++i) {
          m[i] = 0.9f * m[i] + g[i] + 1e-4f * p[i];
          p[i] -= 1e-6f * m[i];
        }
      },
      k->other, 1e-6f, k, 5.0 * static_cast<double>(k->param.bytes()));
}

}  // namespace

void register_plain() {
  for (const Shape& shape : {Shape{32, 56, 56, 64}, Shape{32, 7, 7, 512}, Shape{8, 224, 224, 32}})
    add_relu(shape);
  for (const Shape& shape : {Shape{8, 112, 112, 64}, Shape{32, 56, 56, 64}, Shape{32, 28, 28, 128},
                             Shape{32, 14, 14, 256}, Shape{32, 7, 7, 512}})
    add_batch_norm(shape);
  add_max_pool({8, 112, 112, 64},
               {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .padding_h = 1, .padding_w = 1});
  add_max_pool({8, 224, 224, 32}, {});
  add_softmax({32, 7});
  add_softmax({256, 1000});
  add_sgd({11'000'000});
}

}  // namespace cairn::bench
