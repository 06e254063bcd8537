// Resizing of 8-bit RGB images, as the loader does it: 32 at once, an image a thread.
#include "bench/kernels/bench.h"
#include "data/resize.h"
#include "kernels/cpu/parallel.h"

namespace cairn::bench {
namespace {

using namespace kernels;

constexpr std::int64_t kImages = 32;

struct Tensors {
  Tensors(int in, int out)
      : x(DType::u8, {kImages, in, in, 3}),
        y(DType::u8, {kImages, out, out, 3}),
        other(DType::u8, {kImages, out, out, 3}) {
    // Smooth, as photos are: at an edge the two roundings, after each pass or once, differ most.
    auto* pixels = x.view().as<std::uint8_t>();
    for (std::int64_t i = 0; i < x.view().numel(); ++i) {
      const std::int64_t column = i / 3 % in, row = i / 3 / in % in;
      pixels[i] = static_cast<std::uint8_t>((row * 3 + column * 2 + i % 3 * 40) % 251 / 2 + 60);
    }
  }
  Buffer x, y, other;
};

dnnl::memory::desc nhwc(const Shape& s) {
  return {{s[0], s[3], s[1], s[2]}, dnnl::memory::data_type::u8, dnnl::memory::format_tag::nhwc};
}

void require_close(Buffer& a, Buffer& b) {
  // A level of rounding; half of that again where the horizontal pass was rounded first.
  for (std::int64_t i = 0; i < a.view().numel(); ++i)
    if (std::abs(a.view().as<std::uint8_t>()[i] - b.view().as<std::uint8_t>()[i]) > 1)
      throw std::runtime_error("resize: pixel " + std::to_string(i) +
                               " differs from oneDNN's by more than a level: not timed");
}

void add_resize(int in, int out) {
  const auto k = std::make_shared<Tensors>(in, out);
  const Job ours = [k, in, out] {
    parallel_for(kImages, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i)
        data::resize_bilinear(k->x.view().as<std::uint8_t>() + i * in * in * 3, in, in, 0, 0,
                              static_cast<float>(in), static_cast<float>(in),
                              k->y.view().as<std::uint8_t>() + i * out * out * 3, out, out);
    });
  };
  const double bytes = static_cast<double>(k->x.bytes() + k->y.bytes());
  const std::string name =
      row_name(in < out ? "resize_larger" : "resize_smaller", {kImages, in, in, 3}, DType::u8);
  add_row(name + "cairn", ours, k, bytes);
  if (in > out) return;  // oneDNN has no antialiasing: a smaller image is another job
  const dnnl::memory::desc from = nhwc(k->x.view().shape), to = nhwc(k->y.view().shape);
  const auto pd = onednn::describe<dnnl::resampling_forward>({}, dnnl::prop_kind::forward_inference,
                                                             dnnl::algorithm::resampling_linear, from, to);
  const Job theirs = onednn_job(
      dnnl::resampling_forward(pd),
      {{DNNL_ARG_SRC, onednn::wrap(from, k->x.data())}, {DNNL_ARG_DST, onednn::wrap(to, k->other.data())}});
  ours();
  theirs();
  require_close(k->y, k->other);
  add_row(name + "oneDNN", theirs, k, bytes);
}

}  // namespace

void register_resampling() {
  add_resize(160, 224);
  add_resize(448, 224);
}

}  // namespace cairn::bench
