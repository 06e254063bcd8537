#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.h"

namespace cairn::io {

using Metadata = std::map<std::string, std::string>;

/// A tensor in a file, not read yet.
struct StoredTensor {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;                                      // the file's axis order
  std::function<std::vector<std::uint8_t>()> read;  // little-endian, row-major; keeps the file open
  /// Fills `bytes` from the `offset`-th of them, from any thread; empty where only the whole can be read.
  std::function<void(std::uint64_t offset, std::span<std::uint8_t> bytes)> read_part = {};
};

struct StoredTensors {
  std::string path;
  std::vector<StoredTensor> tensors;  // names are unique
  Metadata metadata;
};

/// A name from a file for a message: on one line, cut after 100 bytes, in quotes.
std::string in_quotes(std::string_view name);

/// Reads a floating tensor as fp32 (fp16 and bf16 exactly, fp64 rounded). Throws InputError for integers.
std::vector<float> read_floats(const StoredTensor& tensor);
/// Fills `values` from element `first`, of a tensor that has read_part.
void read_floats(const StoredTensor& tensor, std::int64_t first, std::span<float> values);

}  // namespace cairn::io
