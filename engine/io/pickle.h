#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "engine/io/input_file.h"
#include "kernels/view.h"

/// A reader of the pickles inside PyTorch's state dicts. It builds plain data and runs nothing: it knows the
/// opcodes and the few globals that torch.save uses for tensors, and refuses everything else by name.
namespace cairn::io::pickle {

struct Value;

/// A tensor's storage: the archive's entry data/KEY.
struct StorageRef {
  DType dtype = DType::f32;
  std::string key;
  std::uint64_t elements = 0;
};

enum class Kind : std::uint8_t { other, integer, text, tuple, list, dict, global, storage, tensor };

/// One object; containers point to others of the same Document.
struct Value {
  Kind kind = Kind::other;  // other: None, bool, float: nothing here needs them
  std::int64_t integer = 0;
  std::string text;                                // text; a global's "module name"
  std::vector<Value*> items;                       // tuple, list
  std::vector<std::pair<Value*, Value*>> entries;  // dict
  StorageRef storage;                              // storage, tensor
  std::int64_t offset = 0;                         // tensor, in elements
  std::vector<std::int64_t> size, stride;          // tensor
};

/// Owns every object that a pickle made (they may refer to each other in circles).
struct Document {
  std::deque<Value> values;
  Value* root = nullptr;
};

/// Throws InputError naming `file` and what was refused.
Document parse(const InputFile& file, const std::vector<std::uint8_t>& bytes);

}  // namespace cairn::io::pickle
