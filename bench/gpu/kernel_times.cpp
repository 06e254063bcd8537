// Every kernel of a training step on a CUDA device, at the models' shapes: time, bytes, share of what a copy
// of memory reaches. Prints a JSON object a row; scripts/gpu-acceptance makes a table of them. On the
// emulated device each runs once and nothing is timed.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>

#include "engine/autograd.h"
#include "engine/backend.h"
#include "engine/benchmark.h"
#include "engine/tensor.h"
#include "kernels/batch_norm.h"
#include "kernels/conv.h"
#include "kernels/device.h"
#include "kernels/dropout.h"
#include "kernels/error.h"
#include "kernels/gemm.h"
#include "kernels/loss.h"
#include "kernels/optimizer.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"
#include "kernels/preprocess.h"
#include "kernels/reduce.h"

namespace cairn {
namespace {

using namespace kernels;

struct Options {
  std::string device = "cuda", filter = ".";
  std::int64_t batch_size = 256;
  int image_size = 224;
};

/// Values in (-1, 1), the same every time.
Tensor noise(const Shape& shape, DType dtype, Device device, std::uint32_t seed = 1) {
  std::minstd_rand random(seed);
  std::uniform_real_distribution<float> value(-1.0f, 1.0f);
  // A block of noise, repeated: drawing a gigabyte takes longer than all else here.
  std::vector<float> block(static_cast<std::size_t>(std::min<std::int64_t>(shape.numel(), 1 << 20)));
  for (float& v : block) v = value(random);
  const Tensor part = from_values<float>({static_cast<std::int64_t>(block.size())}, block, device);
  const Tensor t = empty(shape, dtype, device);
  for (std::int64_t at = 0; at < shape.numel(); at += part.numel()) {
    const std::int64_t n = std::min(part.numel(), shape.numel() - at);
    call(cast, t.queue(), {part.alias({n}).view(), t.alias({n}, at).inplace()});
  }
  return t;
}

double bytes_of(const Tensor& t) {
  return static_cast<double>(t.numel()) * static_cast<double>(size_of(t.dtype()));
}

class Rows {
 public:
  Rows(const Options& o, Device device) : filter_(o.filter), device_(device) {}

  /// A kernel that the memory limits: `bytes` is what it cannot avoid to read and write.
  void memory(const std::string& kernel, const Shape& shape, DType dtype, double bytes,
              const std::function<void()>& f) {
    print(kernel, shape, dtype, "memory", bytes, f);
  }
  /// A convolution or product of `products` multiplications.
  void compute(const std::string& kernel, const Shape& shape, DType dtype, double products,
               const std::function<void()>& f) {
    print(kernel, shape, dtype, "compute", products, f);
  }
  /// One that is too small for either to matter: a launch is what it costs.
  void launch(const std::string& kernel, const Shape& shape, DType dtype, const std::function<void()>& f) {
    print(kernel, shape, dtype, "launch", 0, f);
  }
  bool wants(const std::string& kernel) const { return std::regex_search(kernel, filter_); }

 private:
  void print(const std::string& kernel, const Shape& shape, DType dtype, const char* bound, double work,
             const std::function<void()>& f) const {
    if (!wants(kernel)) return;
    const bool memory = std::string(bound) == "memory";
    const Timing t = benchmark(device_, f, memory ? work : 0);
    nlohmann::json row = {{"kernel", kernel},
                          {"shape", to_string(shape)},
                          {"dtype", name_of(dtype)},
                          {"bound", bound},
                          {"work", work},
                          {"timed", t.timed},
                          {"samples", t.samples},
                          {"median_us", t.median_us},
                          {"p10_us", t.p10_us},
                          {"p90_us", t.p90_us}};
    if (memory) row["gb_per_s"] = t.gb_per_s();
    if (!memory && work > 0 && t.timed) row["tflops"] = 2 * work / t.median_us / 1e6;
    std::printf("%s\n", row.dump().c_str());
    std::fflush(stdout);
  }
  std::regex filter_;
  Device device_;
};

// The bound of all that follows: a copy on the device by the runtime, which reads and writes each byte once.
void copies(Rows& rows, Device device, std::int64_t elements) {
  // Of several sizes: what is small does not reach what is large does, here as elsewhere.
  for (const std::int64_t n : {elements, elements / 4, elements / 16, elements / 64}) {
    const Tensor from = noise({n}, DType::f32, device), to = empty_like(from);
    const DeviceApi& api = *device_api(device.type);
    rows.memory("copy", {n}, DType::f32, 2 * bytes_of(from), [&] {
      check(api.copy(from.queue(), to.inplace().data, from.view().data,
                     static_cast<std::size_t>(bytes_of(from)), CopyKind::device_to_device));
    });
  }
}

void pointwise(Rows& rows, Device device, DType t, const Shape& s) {
  const Tensor x = noise(s, t, device, 1), dy = noise(s, t, device, 2), y = empty_like(x);
  const double bytes = bytes_of(x);
  const Queue& q = x.queue();
  rows.memory("relu_forward", s, t, 2 * bytes, [&] { call(relu_forward, q, {x.view(), y.inplace()}); });
  rows.memory("relu_backward", s, t, 3 * bytes, [&] {
    call(relu_backward, q, {x.view(), dy.view(), y.inplace()});
  });
  rows.memory("add", s, t, 3 * bytes, [&] {
    call(binary_forward, q, {.op = BinaryOp::add, .a = x.view(), .b = dy.view(), .y = y.inplace()});
  });
  rows.memory("dropout", s, t, 2 * bytes, [&] {
    call(dropout, q, {.x = x.view(), .y = y.inplace(), .p = 0.25f, .seed = 1, .step = {}});
  });
  const DType other = t == DType::f32 ? DType::bf16 : DType::f32;
  const Tensor wide = empty(s, other, device);
  rows.memory("cast", s, t, bytes + bytes_of(wide), [&] { call(cast, q, {x.view(), wide.inplace()}); });
  const Tensor norm = zeros({1}, DType::f32, device);
  rows.memory("l2_norm", s, t, bytes, [&] { call(l2_norm, q, {x.view(), norm.inplace()}); });
  const Tensor flag = empty({1}, DType::i32, device);
  call(fill_value, q, {flag.inplace(), 0});
  rows.memory("check_finite", s, t, bytes, [&] { call(check_finite, q, {x.view(), flag.inplace()}); });
}

void batch_norms(Rows& rows, Device device, DType t, const Shape& s) {
  if (!rows.wants("batch_norm")) return;
  const Tensor x = noise(s, t, device, 1), dy = noise(s, t, device, 2), residual = noise(s, t, device, 3);
  const Tensor y = empty_like(x), dx = empty_like(x), dresidual = empty_like(x);
  const Shape c{s[3]};
  const Tensor gamma = noise(c, DType::f32, device, 4), beta = noise(c, DType::f32, device, 5);
  const Tensor mean = zeros(c, DType::f32, device), inv_std = zeros(c, DType::f32, device);
  const Tensor dgamma = zeros(c, DType::f32, device), dbeta = zeros(c, DType::f32, device);
  const double bytes = bytes_of(x);
  for (const bool with_residual : {false, true}) {
    const std::string suffix = with_residual ? "_add_relu" : "_relu";
    // x twice, since the statistics come first; the residual; y.
    rows.memory("batch_norm_forward" + suffix, s, t, (3 + with_residual) * bytes, [&] {
      call(batch_norm_forward, x.queue(),
           {.x = x.view(),
            .gamma = gamma.view(),
            .beta = beta.view(),
            .residual = with_residual ? residual.view() : ConstView{},
            .y = y.inplace(),
            .mean = mean.inplace(),
            .inv_std = inv_std.inplace(),
            .running_mean = {},
            .running_var = {},
            .activation = Activation::relu});
    });
    // x and dy (and y, for the mask) twice; dx (and the residual's gradient).
    rows.memory("batch_norm_backward" + suffix, s, t, (with_residual ? 8 : 5) * bytes, [&] {
      call(batch_norm_backward, x.queue(),
           {.x = x.view(),
            .y = with_residual ? y.view() : ConstView{},
            .dy = dy.view(),
            .gamma = gamma.view(),
            .beta = beta.view(),
            .mean = mean.view(),
            .inv_std = inv_std.view(),
            .dx = dx.inplace(),
            .dresidual = with_residual ? dresidual.inplace() : View{},
            .dgamma = dgamma.inplace(),
            .dbeta = dbeta.inplace(),
            .activation = Activation::relu});
    });
  }
}

void max_pool(Rows& rows, Device device, DType t, const Shape& s, const Pool2dGeometry& g) {
  if (!rows.wants("max_pool2d")) return;
  const auto out = [](std::int64_t n, int kernel, int stride, int padding) {
    return (n + 2 * padding - kernel) / stride + 1;
  };
  const Shape p{s[0], out(s[1], g.kernel_h, g.stride_h, g.padding_h),
                out(s[2], g.kernel_w, g.stride_w, g.padding_w), s[3]};
  const Tensor x = noise(s, t, device, 1), dx = empty_like(x), dy = noise(p, t, device, 2);
  const Tensor y = empty_like(dy), index = empty(p, DType::u8, device);
  const double bytes = bytes_of(x) + bytes_of(y) + bytes_of(index);
  rows.memory("max_pool2d_forward", s, t, bytes, [&] {
    call(max_pool2d_forward, x.queue(), {x.view(), y.inplace(), index.inplace(), g});
  });
  call(max_pool2d_forward, x.queue(), {x.view(), y.inplace(), index.inplace(), g});
  rows.memory("max_pool2d_backward", s, t, bytes, [&] {
    call(max_pool2d_backward, x.queue(), {dy.view(), index.view(), dx.inplace(), g});
  });
}

void global_average(Rows& rows, Device device, DType t, const Shape& s) {
  const Tensor x = noise(s, t, device, 1), dx = empty_like(x), y = noise({s[0], s[3]}, t, device, 2);
  const double bytes = bytes_of(x) + bytes_of(y);
  rows.memory("global_avg_pool_backward", s, t, bytes, [&] {
    call(global_avg_pool_backward, x.queue(), {y.view(), dx.inplace()});
  });
  rows.memory("global_avg_pool_forward", s, t, bytes, [&] {
    call(global_avg_pool_forward, x.queue(), {x.view(), y.inplace()});
  });
}

void losses(Rows& rows, Device device, std::int64_t n) {
  const Tensor logits = noise({n, 7}, DType::f32, device), dlogits = empty_like(logits);
  const Tensor loss = zeros({1}, DType::f32, device);
  const Tensor labels =
      from_values<std::int32_t>({n}, std::vector<std::int32_t>(static_cast<std::size_t>(n), 3), device);
  rows.launch("softmax_cross_entropy", logits.shape(), DType::f32, [&] {
    call(softmax_cross_entropy, logits.queue(),
         {.logits = logits.view(),
          .labels = labels.view(),
          .labels2 = {},
          .lambda = {},
          .class_weights = {},
          .loss = loss.inplace(),
          .per_image = {},
          .dlogits = dlogits.inplace()});
  });
}

void optimizers(Rows& rows, Device device, std::int64_t n) {
  const Tensor p = noise({n}, DType::f32, device, 1), g = noise({n}, DType::f32, device, 2);
  const Tensor first = zeros({n}, DType::f32, device), second = full({n}, 1.0, DType::f32, device);
  const StepScalars values{
      .lr = 1e-6f, .bias_correction1 = 0.5f, .bias_correction2 = 0.5f, .grad_scale = 1, .step = 10};
  std::vector<std::uint8_t> raw(sizeof values);
  std::memcpy(raw.data(), &values, sizeof values);
  const Tensor scalars = from_values<std::uint8_t>({static_cast<std::int64_t>(raw.size())}, raw, device);
  const auto* on_device = static_cast<const StepScalars*>(scalars.view().data);
  const double bytes = bytes_of(p);
  rows.memory("sgd_step", {n}, DType::f32, 5 * bytes, [&] {
    call(sgd_step, p.queue(),
         {.param = p.inplace(),
          .grad = g.view(),
          .momentum_buffer = first.inplace(),
          .shadow = {},
          .scalars = on_device,
          .grad_norm = {},
          .nonfinite = {},
          .momentum = 0.9f,
          .weight_decay = 1e-4f});
  });
  rows.memory("adam_step", {n}, DType::f32, 7 * bytes, [&] {
    call(adam_step, p.queue(),
         {.param = p.inplace(),
          .grad = g.view(),
          .exp_avg = first.inplace(),
          .exp_avg_sq = second.inplace(),
          .shadow = {},
          .scalars = on_device,
          .grad_norm = {},
          .nonfinite = {},
          .weight_decay = 1e-2f,
          .decoupled = true});
  });
}

void inputs(Rows& rows, Device device, DType t, const Shape& s) {
  const std::vector<std::uint8_t> pixels(static_cast<std::size_t>(s.numel()), 99);
  const Tensor x = from_values<std::uint8_t>(s, pixels, device), y = empty(s, t, device);
  rows.memory("preprocess", s, t, bytes_of(x) + bytes_of(y), [&] {
    call(preprocess, x.queue(), {.x = x.view(), .flip = {}, .index = {}, .crop = {}, .y = y.inplace()});
  });
}

/// One convolution of ResNet-18, three ways, and one product.
void products(Rows& rows, Device device, DType t, std::int64_t n, std::int64_t side) {
  const std::int64_t c = 128;
  const Shape s{n, side, side, c};
  const Tensor x = noise(s, t, device, 1), dy = noise(s, t, device, 2), y = empty_like(x);
  const Tensor w = noise({c, 3, 3, c}, DType::f32, device, 3), dw = empty_like(w);
  const Conv2dGeometry g{.padding_h = 1, .padding_w = 1};
  const double count = static_cast<double>(s.numel()) * 9 * static_cast<double>(c);
  rows.compute("conv2d_forward", s, t, count, [&] {
    call(conv2d_forward, x.queue(),
         {.x = x.view(), .w = w.view(), .bias = {}, .residual = {}, .y = y.inplace(), .geometry = g});
  });
  rows.compute("conv2d_backward_data", s, t, count, [&] {
    call(conv2d_backward_data, x.queue(), {.dy = dy.view(), .w = w.view(), .dx = y.inplace(), .geometry = g});
  });
  rows.compute("conv2d_backward_weight", s, t, count, [&] {
    call(conv2d_backward_weight, x.queue(),
         {.x = x.view(), .dy = dy.view(), .dw = dw.inplace(), .dbias = {}, .geometry = g});
  });
  const std::int64_t in = 128 * side * side;  // ModelCNN's large layer
  const Tensor a = noise({n, in}, t, device, 4), b = noise({512, in}, DType::f32, device, 5);
  const Tensor out = empty({n, 512}, t, device);
  rows.compute("linear_forward", {n, in}, t, static_cast<double>(n * in) * 512, [&] {
    call(linear_forward, a.queue(), {.x = a.view(), .w = b.view(), .bias = {}, .y = out.inplace()});
  });
}

void run(const Options& o) {
  const Device device = parse_device(o.device);
  const NoGrad no_grad;
  Rows rows(o, device);
  const std::int64_t n = o.batch_size, side = o.image_size;
  std::string libraries;
  for (const BackendPart& part : backend_parts())
    if (part.works) libraries += (libraries.empty() ? "" : ", ") + part.found;
  std::printf("%s\n", nlohmann::json{{"device", device_api(device.type)->describe(device.index)},
                                     {"libraries", libraries}}
                          .dump()
                          .c_str());
  copies(rows, device, n * side * side * 8);
  for (const DType t : {DType::bf16, DType::f32}) {
    if (t == DType::bf16 && fast_dtype(device) != DType::bf16) continue;  // sm_75
    pointwise(rows, device, t, {n, side / 4, side / 4, 64});
    // ResNet-18's four stages.
    for (const int stage : {0, 1, 2, 3})
      batch_norms(rows, device, t, {n, side / (4 << stage), side / (4 << stage), std::int64_t{64} << stage});
    max_pool(rows, device, t, {n, side / 2, side / 2, 64},
             {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .padding_h = 1, .padding_w = 1});
    max_pool(rows, device, t, {n, side, side, 32}, {});  // ModelCNN's first
    global_average(rows, device, t, {n, side / 4, side / 4, 512});
    inputs(rows, device, t, {n, side, side, 3});
    products(rows, device, t, n, side / 8);
  }
  losses(rows, device, n);
  optimizers(rows, device, side < 64 ? 100'003 : 11'200'000);
}

}  // namespace
}  // namespace cairn

int main(int count, char** arguments) {
  cairn::Options o;
  CLI::App app("Times the kernels of a training step on a CUDA device; JSON lines");
  app.add_option("--device", o.device)->capture_default_str();
  app.add_option("--filter", o.filter, "a regular expression over kernels' names")->capture_default_str();
  app.add_option("--batch-size", o.batch_size)->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--image-size", o.image_size)->check(CLI::Range(32, 2048))->capture_default_str();
  CLI11_PARSE(app, count, arguments);
  try {
    cairn::run(o);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_times: %s\n", error.what());
    return 1;
  }
}
