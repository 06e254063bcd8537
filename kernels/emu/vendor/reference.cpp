#include "kernels/emu/vendor/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "kernels/emu/emu.h"
#include "kernels/emu/report.h"
#include "kernels/view.h"

namespace cairn::emu {
namespace {

std::size_t bytes_of(Element e) { return e == Element::f32 ? 4 : 2; }

float load(const void* p, Element e) {
  if (e == Element::f32) {
    float f;
    std::memcpy(&f, p, sizeof f);
    return f;
  }
  std::uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  if (e == Element::bf16) {
    BFloat16 b;
    b.bits = bits;
    return static_cast<float>(b);
  }
  Float16 h;
  h.bits = bits;
  return static_cast<float>(h);
}

void store(void* p, Element e, float value) {
  if (e == Element::f32) {
    std::memcpy(p, &value, sizeof value);
  } else {
    const std::uint16_t bits = e == Element::bf16 ? BFloat16(value).bits : Float16(value).bits;
    std::memcpy(p, &bits, sizeof bits);
  }
}

/// Reports memory that a library call reaches and that is not the device's.
bool valid(const void* data, std::int64_t elements, Element type, const std::string& who) {
  if (elements == 0) return true;
  if (device_range_valid(data, static_cast<std::size_t>(elements) * bytes_of(type))) return true;
  char address[32];
  std::snprintf(address, sizeof address, "%p", data);
  add_report({.defect = is_device_pointer(data) ? Defect::out_of_bounds : Defect::host_pointer,
              .kernel = who,
              .message = who + " was given " + std::to_string(elements) + " elements at " + address +
                         ", which do not lie in one allocation of the device"});
  return false;
}

/// Calls f(offset in memory, offset in the dense values) for each element: channels innermost.
template <class F>
void for_each(const StridedTensor& t, F&& f) {
  const auto [n, c, h, w] = t.dims;
  std::int64_t dense = 0;
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t p = 0; p < h; ++p)
      for (std::int64_t q = 0; q < w; ++q) {
        const std::int64_t base = i * t.strides[0] + p * t.strides[2] + q * t.strides[3];
        for (std::int64_t k = 0; k < c; ++k) f(base + k * t.strides[1], dense++);
      }
}
std::int64_t count(const StridedTensor& t) { return t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3]; }
std::int64_t extent(const StridedTensor& t) {
  if (count(t) == 0) return 0;
  std::int64_t last = 0;
  for (std::size_t i = 0; i < 4; ++i) last += (t.dims[i] - 1) * t.strides[i];
  return last + 1;
}

template <class F>
void for_each(const Matrix& m, F&& f) {
  for (std::int64_t j = 0; j < m.columns; ++j)
    for (std::int64_t i = 0; i < m.rows; ++i)
      f(m.row_major ? i * m.leading + j : j * m.leading + i, j * m.rows + i);
}
std::int64_t count(const Matrix& m) { return m.rows * m.columns; }
std::int64_t extent(const Matrix& m) {
  if (count(m) == 0) return 0;
  return m.row_major ? (m.rows - 1) * m.leading + m.columns : (m.columns - 1) * m.leading + m.rows;
}

template <class T>
std::vector<float> gather_values(const T& t, const std::string& who) {
  std::vector<float> values(static_cast<std::size_t>(count(t)), std::numeric_limits<float>::quiet_NaN());
  const std::int64_t reach = extent(t);
  if (!valid(t.data, reach, t.type, who)) return values;
  std::vector<std::byte> memory(static_cast<std::size_t>(reach) * bytes_of(t.type));
  device_read(memory.data(), t.data, memory.size());
  for_each(t, [&](std::int64_t from, std::int64_t to) {
    values[static_cast<std::size_t>(to)] =
        load(memory.data() + static_cast<std::size_t>(from) * bytes_of(t.type), t.type);
  });
  return values;
}

template <class T>
void scatter_values(const T& t, const std::vector<float>& values, const std::string& who) {
  const std::int64_t reach = extent(t);
  if (reach == 0 || !valid(t.data, reach, t.type, who)) return;
  std::vector<std::byte> memory(static_cast<std::size_t>(reach) * bytes_of(t.type));
  if (reach != count(t)) device_read(memory.data(), t.data, memory.size());
  for_each(t, [&](std::int64_t to, std::int64_t from) {
    store(memory.data() + static_cast<std::size_t>(to) * bytes_of(t.type), t.type,
          values[static_cast<std::size_t>(from)]);
  });
  device_write(t.data, memory.data(), memory.size());
}

using dnnl::memory;

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

memory wrap(const DenseTensor& t) {
  return {memory::desc({t.dims.begin(), t.dims.end()}, memory::data_type::f32, memory::format_tag::nhwc),
          engine(), const_cast<float*>(t.values.data())};
}
/// Filters with groups: (G,K/G,C/G,R,S) in memory that is [K,R,S,C/G].
memory wrap_filters(const DenseTensor& t, std::int64_t groups) {
  const auto [k, c, r, s] = t.dims;
  const memory::desc desc =
      groups == 1 ? memory::desc({k, c, r, s}, memory::data_type::f32, memory::dims{r * s * c, 1, s * c, c})
                  : memory::desc({groups, k / groups, c, r, s}, memory::data_type::f32,
                                 memory::dims{k / groups * r * s * c, r * s * c, 1, s * c, c});
  return {desc, engine(), const_cast<float*>(t.values.data())};
}

DenseTensor flipped(const DenseTensor& w) {
  DenseTensor out = w;
  const auto [k, c, r, s] = w.dims;
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t p = 0; p < r * s; ++p)
      std::copy_n(w.values.begin() + (i * r * s + p) * c, c,
                  out.values.begin() + (i * r * s + (r * s - 1 - p)) * c);
  return out;
}

memory::desc any_of(const memory& m) {
  const memory::desc d = m.get_desc();
#if DNNL_VERSION_MAJOR >= 3
  return {d.get_dims(), memory::data_type::f32, memory::format_tag::any};
#else
  return {d.dims(), memory::data_type::f32, memory::format_tag::any};
#endif
}

template <class Primitive, class... Args>
typename Primitive::primitive_desc describe(const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Primitive::primitive_desc(engine(), args...);
#else
  return typename Primitive::primitive_desc(typename Primitive::desc(args...), engine());
#endif
}
template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_backward(const Hint& hint, const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Primitive::primitive_desc(engine(), args..., hint);
#else
  return typename Primitive::primitive_desc(typename Primitive::desc(args...), engine(), hint);
#endif
}

}  // namespace

std::size_t bytes_of(const StridedTensor& t) {
  return static_cast<std::size_t>(extent(t)) * bytes_of(t.type);
}

DenseTensor gather(const StridedTensor& t, const std::string& who) { return {t.dims, gather_values(t, who)}; }
void scatter(const StridedTensor& t, const DenseTensor& from, const std::string& who) {
  scatter_values(t, from.values, who);
}
std::vector<float> gather(const Matrix& m, const std::string& who) { return gather_values(m, who); }
void scatter(const Matrix& m, const std::vector<float>& values, const std::string& who) {
  scatter_values(m, values, who);
}

void convolve(ConvPass pass, const ConvGeometry& g, const DenseTensor& x, const DenseTensor& w,
              const DenseTensor& y, DenseTensor& out) {
  DenseTensor filters = g.flip && pass != ConvPass::wgrad ? flipped(w) : w;
  out.values.resize(static_cast<std::size_t>(out.dims[0] * out.dims[1] * out.dims[2] * out.dims[3]));
  const DenseTensor& input = pass == ConvPass::dgrad ? out : x;
  const DenseTensor& weights = pass == ConvPass::wgrad ? out : filters;
  const DenseTensor& output = pass == ConvPass::fprop ? out : y;
  const std::int64_t groups = input.dims[1] / std::max<std::int64_t>(weights.dims[1], 1);
  const memory xm = wrap(input), ym = wrap(output), wm = wrap_filters(weights, groups);
  const memory::dims stride(g.stride.begin(), g.stride.end()), padding(g.padding.begin(), g.padding.end());
  const memory::dims dilation{g.dilation[0] - 1, g.dilation[1] - 1};  // oneDNN counts from 0
  constexpr auto kDirect = dnnl::algorithm::convolution_direct;

  dnnl::stream stream(engine());
  const auto forward =
      describe<dnnl::convolution_forward>(dnnl::prop_kind::forward_training, kDirect, xm.get_desc(),
                                          any_of(wm), ym.get_desc(), stride, dilation, padding, padding);
  if (pass == ConvPass::wgrad) {
    const auto desc = describe_backward<dnnl::convolution_backward_weights>(
        forward, kDirect, xm.get_desc(), any_of(wm), ym.get_desc(), stride, dilation, padding, padding);
    memory dw(desc.diff_weights_desc(), engine());
    dnnl::convolution_backward_weights(desc).execute(
        stream, {{DNNL_ARG_SRC, xm}, {DNNL_ARG_DIFF_DST, ym}, {DNNL_ARG_DIFF_WEIGHTS, dw}});
    memory plain = wm;
    dnnl::reorder(dw, plain).execute(stream, dw, plain);
    stream.wait();
    if (g.flip) out = flipped(out);
    return;
  }
  const auto packed = [&](const memory::desc& desc) {
    memory m(desc, engine()), plain = wm;
    dnnl::reorder(plain, m).execute(stream, plain, m);
    return m;
  };
  if (pass == ConvPass::fprop) {
    dnnl::convolution_forward(forward).execute(
        stream, {{DNNL_ARG_SRC, xm}, {DNNL_ARG_WEIGHTS, packed(forward.weights_desc())}, {DNNL_ARG_DST, ym}});
  } else {
    const auto desc = describe_backward<dnnl::convolution_backward_data>(
        forward, kDirect, xm.get_desc(), any_of(wm), ym.get_desc(), stride, dilation, padding, padding);
    dnnl::convolution_backward_data(desc).execute(
        stream,
        {{DNNL_ARG_DIFF_SRC, xm}, {DNNL_ARG_WEIGHTS, packed(desc.weights_desc())}, {DNNL_ARG_DIFF_DST, ym}});
  }
  stream.wait();
}

std::vector<float> multiply(std::int64_t m, std::int64_t n, std::int64_t k, bool transpose_a,
                            const std::vector<float>& a, bool transpose_b, const std::vector<float>& b) {
  std::vector<float> d(static_cast<std::size_t>(m * n), 0.0f);
  if (m == 0 || n == 0 || k == 0) return d;
  // oneDNN's is row-major: a column-major product is the row-major one of the transposed factors, swapped.
  const auto flag = [](bool t) { return t ? 'T' : 'N'; };
  dnnl::sgemm(flag(transpose_b), flag(transpose_a), n, m, k, 1.0f, b.data(), transpose_b ? n : k, a.data(),
              transpose_a ? k : m, 0.0f, d.data(), m);
  return d;
}

}  // namespace cairn::emu
