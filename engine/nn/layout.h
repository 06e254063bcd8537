#pragma once
#include <span>
#include <vector>

#include "engine/nn/module.h"

namespace cairn::nn {

/// The shape that a tensor of the engine has in files.
inline Shape file_shape(const Shape& engine, Layout layout) {
  return layout == Layout::filter ? Shape{engine[0], engine[3], engine[1], engine[2]} : engine;
}

/// Where the engine keeps the element that stands at `file` in the file.
inline std::size_t engine_index(const Shape& engine, Layout layout, std::size_t file) {
  if (layout == Layout::plain) return file;
  const auto area = static_cast<std::size_t>(engine[1] * engine[2]);
  const auto channels = static_cast<std::size_t>(engine[3]);
  const std::size_t k = file / (area * channels), c = file / area % channels, rs = file % area;
  return (k * area + rs) * channels + c;
}

/// Calls f(index in the file, index in the engine) for each element.
template <class F>
void for_each_element(const Shape& engine, Layout layout, F&& f) {
  std::size_t file = 0;
  if (layout == Layout::plain) {
    for (const auto n = static_cast<std::size_t>(engine.numel()); file < n; ++file) f(file, file);
    return;
  }
  const auto filters = static_cast<std::size_t>(engine[0]);
  const auto area = static_cast<std::size_t>(engine[1] * engine[2]);
  const auto channels = static_cast<std::size_t>(engine[3]);
  for (std::size_t k = 0; k < filters; ++k)
    for (std::size_t c = 0; c < channels; ++c)
      for (std::size_t rs = 0; rs < area; ++rs) f(file++, (k * area + rs) * channels + c);
}

template <class T>
std::vector<T> to_file_order(std::span<const T> values, const Shape& engine, Layout layout) {
  std::vector<T> result(values.size());
  for_each_element(engine, layout, [&](std::size_t file, std::size_t mine) { result[file] = values[mine]; });
  return result;
}

template <class T>
std::vector<T> from_file_order(std::span<const T> values, const Shape& engine, Layout layout) {
  std::vector<T> result(values.size());
  for_each_element(engine, layout, [&](std::size_t file, std::size_t mine) { result[mine] = values[file]; });
  return result;
}

}  // namespace cairn::nn
