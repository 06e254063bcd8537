#pragma once
/// Convolutions and products through NVIDIA's libraries, on the emulated device or a GPU, against the
/// definition in double. Each check answers with what is wrong, or nothing: a test of a planted fault wants
/// an answer.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "kernels/cuda/status.h"
#include "kernels/device.h"
#include "kernels/gemm.h"
#include "tests/kernels/conv_oracle.h"

#if defined(CAIRN_CUDA_EMU)
#include "kernels/emu/emu.h"
#include "kernels/emu/runtime.h"
#endif

namespace cairn::kernels {

/// The device with the providers loaded, and no cache of plans from other runs.
inline const Queue& test_queue() {
  static const Queue queue = [] {
    setenv("CAIRN_CACHE", "off", 1);
    backend_parts();
    Queue q;
    const Status s = device_api(kCudaDevice)->create_queue(0, q);
    if (!s.ok()) throw std::runtime_error(s.message());
    return q;
  }();
  return queue;
}

/// A tensor in the device's memory; values go in and come out as doubles. Starts as NaN.
class DeviceTensor {
 public:
  /// `offset`: bytes by which it begins behind memory that is aligned to 256.
  DeviceTensor(DType dtype, const Shape& shape, std::size_t offset = 0)
      : DeviceTensor(Buffer(dtype, shape), offset) {}
  DeviceTensor(DType dtype, const Shape& shape, const std::vector<double>& values, std::size_t offset = 0)
      : DeviceTensor(Buffer(dtype, shape, values), offset) {}
  ~DeviceTensor() { (void)api().release(0, allocation_); }
  DeviceTensor(const DeviceTensor&) = delete;
  DeviceTensor& operator=(const DeviceTensor&) = delete;

  View view() { return {memory_, dtype_, shape_}; }
  ConstView in() const { return {memory_, dtype_, shape_}; }
  Buffer read() const {
    Buffer host(dtype_, shape_);
    must(api().copy(test_queue(), host.data(), memory_, host.bytes(), CopyKind::device_to_host));
    must(api().synchronize(test_queue()));
    return host;
  }

 private:
  explicit DeviceTensor(const Buffer& host, std::size_t offset)
      : dtype_(host.in().dtype), shape_(host.in().shape) {
    must(api().allocate(0, host.bytes() + offset, &allocation_));
    memory_ = static_cast<char*>(allocation_) + offset;
    must(api().copy(test_queue(), memory_, host.data(), host.bytes(), CopyKind::host_to_device));
    must(api().synchronize(test_queue()));
  }
  static const DeviceApi& api() { return *device_api(kCudaDevice); }
  static void must(const Status& s) {
    if (!s.ok()) throw std::runtime_error(s.message());
  }
  DType dtype_;
  Shape shape_;
  void *allocation_ = nullptr, *memory_ = nullptr;
};

/// Runs a kernel with its scratch; what it answered, if it failed or (which only the emulated device can
/// tell) the library had no part in it.
template <class Args>
std::string run_vendor(const KernelSlot<Args>& slot, Args args) {
  const Queue& queue = test_queue();
  args.scratch_bytes = slot.workspace(queue, args);
  DeviceTensor scratch(DType::u8, {static_cast<std::int64_t>(args.scratch_bytes)});
  args.scratch = scratch.view().data;
#if defined(CAIRN_CUDA_EMU)
  const std::int64_t calls = emu::call_counts().library_calls;
  const Status status = slot(queue, args);
  if (status.ok() && emu::call_counts().library_calls == calls) return "a plain kernel served instead";
  const Status done = device_api(kCudaDevice)->synchronize(queue);
  for (const emu::Report& r : emu::take_reports()) return r.message;
#else
  const Status status = slot(queue, args);
  const Status done = device_api(kCudaDevice)->synchronize(queue);
#endif
  return status.ok() ? done.message() : status.message();
}

/// Values as the dtype holds them.
inline std::vector<double> held_by(DType t, const std::vector<double>& values) {
  return Buffer(t, {static_cast<std::int64_t>(values.size())}, values).values();
}
inline std::vector<double> random_for(DType t, const Shape& shape, std::uint32_t seed) {
  return held_by(t, random_values(DType::f64, shape, seed));
}

/// "" where got is within tolerance(i) of want[i], else the worst element.
inline std::string mismatch(const Buffer& got, const std::vector<double>& want,
                            const std::function<double(std::size_t)>& tolerance, const std::string& what) {
  double worst = 1;
  std::string message;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double value = got.at(static_cast<std::int64_t>(i));
    const double share = std::abs(value - want[i]) / tolerance(i);
    if (share <= worst) continue;
    if (!std::isnan(share)) worst = share;
    message = what + ": element " + std::to_string(i) + " of " + std::to_string(want.size()) + ", got " +
              std::to_string(value) + ", want " + std::to_string(want[i]) + ", allowed " +
              std::to_string(tolerance(i));
    if (std::isnan(share)) break;
  }
  return message;
}

/// The largest sum_tolerance with an output of dtype `out`, where the summed product itself was first rounded
/// to `kept` (a 16-bit weight gradient that lands in fp32).
inline double vendor_tolerance(DType kept, DType out, double want, double norm, double length) {
  return sum_tolerance(out, want, norm, length) + 2 * rounding_of(kept) * (std::abs(want) + norm);
}

struct VendorConv {
  ConvCase c;
  DType dtype;
  std::vector<double> x = random_for(dtype, c.x, 1), w = random_for(DType::f32, c.w, 2),
                      dy = random_for(dtype, c.y(), 3);
  ConvOracle oracle{c, x, held_by(dtype, w), dy};

  /// Bytes by which tensors of the forward pass begin behind aligned memory.
  struct Offsets {
    std::size_t x = 0, residual = 0, y = 0;
  };
  std::string forward(bool with_bias, bool with_residual, bool relu) const {
    return forward(with_bias, with_residual, relu, {});
  }
  std::string forward(bool with_bias, bool with_residual, bool relu, const Offsets& offsets) const {
    const std::vector<double> bias = random_for(DType::f32, {c.w[0]}, 4);
    const std::vector<double> used_bias = held_by(dtype, bias), residual = random_for(dtype, c.y(), 5);
    const DeviceTensor xd(dtype, c.x, x, offsets.x), wd(DType::f32, c.w, w), bd(DType::f32, {c.w[0]}, bias),
        rd(dtype, c.y(), residual, offsets.residual);
    DeviceTensor y(dtype, c.y(), offsets.y);
    const std::string said =
        run_vendor(conv2d_forward, {.x = xd.in(),
                                    .w = wd.in(),
                                    .bias = with_bias ? bd.in() : ConstView{},
                                    .residual = with_residual ? rd.in() : ConstView{},
                                    .y = y.view(),
                                    .geometry = c.g,
                                    .activation = relu ? Activation::relu : Activation::none});
    if (!said.empty()) return said;
    std::vector<double> want = oracle.y;
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (with_bias) want[i] += used_bias[i % used_bias.size()];
      if (with_residual) want[i] += residual[i];
      if (relu) want[i] = std::max(want[i], 0.0);
    }
    const auto length = static_cast<double>(c.w[1] * c.w[2] * c.w[3]);
    return mismatch(
        y.read(), want,
        [&](std::size_t i) { return sum_tolerance(dtype, want[i], oracle.y_norm[i] + 2, length); },
        c.name() + " y");
  }

  std::string backward_data(Write write) const {
    const std::vector<double> before = random_for(dtype, c.x, 6);
    const DeviceTensor dyd(dtype, c.y(), dy), wd(DType::f32, c.w, w);
    DeviceTensor dx(dtype, c.x, before);
    const std::string said =
        run_vendor(conv2d_backward_data,
                   {.dy = dyd.in(), .w = wd.in(), .dx = dx.view(), .geometry = c.g, .write = write});
    if (!said.empty()) return said;
    const std::vector<double> want = write == Write::add ? added(oracle.dx, before) : oracle.dx;
    const auto length = static_cast<double>(c.w[0] / c.g.groups * c.w[1] * c.w[2]);
    return mismatch(
        dx.read(), want,
        [&](std::size_t i) { return vendor_tolerance(dtype, dtype, want[i], oracle.dx_norm[i] + 1, length); },
        c.name() + " dx");
  }

  std::string backward_weight(Write write, bool with_bias) const {
    const Shape ys = c.y();
    const std::vector<double> before = random_for(DType::f32, c.w, 7),
                              bias_before = random_for(DType::f32, {c.w[0]}, 8);
    const DeviceTensor xd(dtype, c.x, x), dyd(dtype, ys, dy);
    DeviceTensor dw(DType::f32, c.w, before), dbias(DType::f32, {c.w[0]}, bias_before);
    const std::string said = run_vendor(conv2d_backward_weight, {.x = xd.in(),
                                                                 .dy = dyd.in(),
                                                                 .dw = dw.view(),
                                                                 .dbias = with_bias ? dbias.view() : View{},
                                                                 .geometry = c.g,
                                                                 .write = write,
                                                                 .dbias_write = write});
    if (!said.empty()) return said;
    const std::vector<double> want = write == Write::add ? added(oracle.dw, before) : oracle.dw;
    std::vector<double> want_bias =
        !with_bias || write == Write::add ? bias_before : std::vector<double>(bias_before.size());
    for (std::size_t i = 0; with_bias && i < dy.size(); ++i) want_bias[i % want_bias.size()] += dy[i];
    const auto length = static_cast<double>(ys[0] * ys[1] * ys[2]);
    std::string wrong = mismatch(
        dw.read(), want,
        [&](std::size_t i) {
          return vendor_tolerance(dtype, DType::f32, want[i], oracle.dw_norm[i] + 1, length);
        },
        c.name() + " dw");
    if (!wrong.empty()) return wrong;
    return mismatch(
        dbias.read(), want_bias,
        [&](std::size_t i) { return sum_tolerance(DType::f32, want_bias[i], std::sqrt(length) + 1, length); },
        c.name() + " dbias");
  }
};

/// x [n,c], w [k,c], y [n,k].
struct VendorLinear {
  std::int64_t n, c, k;
  DType dtype;
  Shape xs{n, c}, ws{k, c}, ys{n, k};
  std::vector<double> x = random_for(dtype, xs, 1), w = random_for(DType::f32, ws, 2),
                      dy = random_for(dtype, ys, 3), used_w = held_by(dtype, w);

  /// sum over l of a(i, l) b(l, j) with the root of the sum of squares.
  struct Sums {
    std::vector<double> value, norm;
  };
  template <class A, class B>
  static Sums sums(std::int64_t rows, std::int64_t columns, std::int64_t length, A&& a, B&& b) {
    Sums s;
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) {
        double value = 0, squares = 0;
        for (std::int64_t l = 0; l < length; ++l) {
          const double term = a(i, l) * b(l, j);
          value += term;
          squares += term * term;
        }
        s.value.push_back(value);
        s.norm.push_back(std::sqrt(squares));
      }
    return s;
  }
  static double at(const std::vector<double>& v, std::int64_t row, std::int64_t column,
                   std::int64_t columns) {
    return v[static_cast<std::size_t>(row * columns + column)];
  }
  std::string compare(const DeviceTensor& got, const std::vector<double>& want, const Sums& s,
                      std::int64_t length, const char* what) const {
    const DType out = got.in().dtype;
    return mismatch(
        got.read(), want,
        [&](std::size_t i) {
          return sum_tolerance(out, want[i], s.norm[i] + 2, static_cast<double>(length));
        },
        what + (" of " + to_string(xs)) + " by " + to_string(ws));
  }

  std::string forward(bool with_bias, bool relu) const {
    const std::vector<double> bias = random_for(DType::f32, {k}, 4), used_bias = held_by(dtype, bias);
    const DeviceTensor xd(dtype, xs, x), wd(DType::f32, ws, w), bd(DType::f32, {k}, bias);
    DeviceTensor y(dtype, ys);
    const std::string said =
        run_vendor(linear_forward, {.x = xd.in(),
                                    .w = wd.in(),
                                    .bias = with_bias ? bd.in() : ConstView{},
                                    .y = y.view(),
                                    .activation = relu ? Activation::relu : Activation::none});
    if (!said.empty()) return said;
    const Sums s = sums(
        n, k, c, [&](auto i, auto l) { return at(x, i, l, c); },
        [&](auto l, auto j) { return at(used_w, j, l, c); });
    std::vector<double> want = s.value;
    for (std::size_t i = 0; i < want.size(); ++i) {
      if (with_bias) want[i] += used_bias[i % used_bias.size()];
      if (relu) want[i] = std::max(want[i], 0.0);
    }
    return compare(y, want, s, c, "y");
  }
  std::string backward_data(Write write) const {
    const std::vector<double> before = random_for(dtype, xs, 5);
    const DeviceTensor dyd(dtype, ys, dy), wd(DType::f32, ws, w);
    DeviceTensor dx(dtype, xs, before);
    const std::string said =
        run_vendor(linear_backward_data, {.dy = dyd.in(), .w = wd.in(), .dx = dx.view(), .write = write});
    if (!said.empty()) return said;
    const Sums s = sums(
        n, c, k, [&](auto i, auto l) { return at(dy, i, l, k); },
        [&](auto l, auto j) { return at(used_w, l, j, c); });
    return compare(dx, write == Write::add ? added(s.value, before) : s.value, s, k, "dx");
  }
  std::string backward_weight(Write write, bool with_bias) const {
    const std::vector<double> before = random_for(DType::f32, ws, 6),
                              bias_before = random_for(DType::f32, {k}, 7);
    const DeviceTensor xd(dtype, xs, x), dyd(dtype, ys, dy);
    DeviceTensor dw(DType::f32, ws, before), dbias(DType::f32, {k}, bias_before);
    const std::string said = run_vendor(linear_backward_weight, {.x = xd.in(),
                                                                 .dy = dyd.in(),
                                                                 .dw = dw.view(),
                                                                 .dbias = with_bias ? dbias.view() : View{},
                                                                 .write = write,
                                                                 .dbias_write = write});
    if (!said.empty()) return said;
    const Sums s = sums(
        k, c, n, [&](auto i, auto l) { return at(dy, l, i, k); },
        [&](auto l, auto j) { return at(x, l, j, c); });
    std::string wrong = compare(dw, write == Write::add ? added(s.value, before) : s.value, s, n, "dw");
    if (!wrong.empty()) return wrong;
    const Sums b = sums(
        1, k, n, [](auto, auto) { return 1.0; }, [&](auto l, auto j) { return at(dy, l, j, k); });
    const std::vector<double>& want_bias = !with_bias ? bias_before : b.value;
    return compare(dbias, with_bias && write == Write::add ? added(b.value, bias_before) : want_bias, b, n,
                   "dbias");
  }
};

}  // namespace cairn::kernels
