#include "engine/io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "engine/io/input_file.h"
#include "kernels/atomic_file.h"
#include "kernels/error.h"

#include <xxhash.h>

namespace cairn::io {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // finds a name by going through all: for writing only

// ResNet-18's is 12 kB. Parsed, a byte may cost 20: the reference implementation's limit of 100 MB would let
// a stranger's file take gigabytes.
constexpr std::uint64_t kMaxHeader = 16 << 20;
// {name: {key: [number]}}
constexpr int kMaxDepth = 3;

constexpr std::array<std::pair<std::string_view, DType>, 7> kDTypes{{{"F32", DType::f32},
                                                                     {"F64", DType::f64},
                                                                     {"F16", DType::f16},
                                                                     {"BF16", DType::bf16},
                                                                     {"U8", DType::u8},
                                                                     {"I32", DType::i32},
                                                                     {"I64", DType::i64}}};

std::string_view spelling(DType dtype) {
  return std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& d) { return d.second == dtype; })
      ->first;
}

struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// The depth of the brackets, found before parsing: a parser takes memory for each level.
int depth_of(const std::vector<std::uint8_t>& text) {
  int depth = 0, deepest = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::uint8_t c = text[i];
    if (c == '"') quoted = !quoted;
    if (quoted && c == '\\') ++i;  // what is escaped ends no string
    if (quoted) continue;
    if (c == '[' || c == '{') deepest = std::max(deepest, ++depth);
    if (c == ']' || c == '}') --depth;
  }
  return deepest;
}

Json parse_header(const InputFile& file, const std::vector<std::uint8_t>& text) {
  if (depth_of(text) > kMaxDepth)
    file.fail("its header is nested too deeply; it is damaged or not a safetensors file");
  // A JSON object silently keeps one of two equal names; which tensor is meant must not be guessed.
  std::set<std::string> names;
  std::string twice;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth == 1 && event == Json::parse_event_t::key && !names.insert(value.get<std::string>()).second)
      twice = value.get<std::string>();
    return true;
  };
  Json header = Json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (header.is_discarded() || !header.is_object())
    file.fail("its header is not valid JSON; it is damaged or not a safetensors file");
  if (!twice.empty()) file.fail("tensor " + in_quotes(twice) + " stands in the header twice");
  return header;
}

std::optional<std::uint64_t> as_count(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  return value.get<std::uint64_t>();
}

Shape parse_shape(const InputFile& file, const std::string& name, const Json& axes) {
  if (!axes.is_array() || axes.size() > static_cast<std::size_t>(kMaxRank))
    file.fail("tensor " + in_quotes(name) + " needs a shape of at most " + std::to_string(kMaxRank) +
              " axes");
  constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 48;  // far over any file, far from overflow
  std::uint64_t elements = 1;
  Shape shape;
  for (const Json& axis : axes) {
    const auto length = as_count(axis);
    if (!length || (*length > 0 && elements > kMaxElements / *length))
      file.fail("tensor " + in_quotes(name) + " has an impossible shape " + in_quotes(axes.dump()));
    elements *= *length;
    shape[shape.rank++] = static_cast<std::int64_t>(*length);
  }
  return shape;
}

std::pair<StoredTensor, Range> parse_entry(const InputFile& file, const std::string& name,
                                           const Json& entry) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets") || !entry["dtype"].is_string())
    file.fail("tensor " + in_quotes(name) + " lacks dtype, shape or data_offsets");
  StoredTensor t;
  t.name = name;
  const auto& dtype_name = entry["dtype"].get_ref<const std::string&>();
  const auto dtype =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& d) { return d.first == dtype_name; });
  if (dtype == kDTypes.end())
    file.fail("tensor " + in_quotes(name) + " is of type " + in_quotes(dtype_name) +
              "; known are F32, F64, F16, BF16, U8, I32, I64");
  t.dtype = dtype->second;
  t.shape = parse_shape(file, name, entry["shape"]);
  const Json& offsets = entry["data_offsets"];
  Range range;
  if (offsets.is_array() && offsets.size() == 2 && as_count(offsets[0]) && as_count(offsets[1]))
    range = {*as_count(offsets[0]), *as_count(offsets[1])};
  else
    file.fail("tensor " + in_quotes(name) + " has data_offsets " + in_quotes(offsets.dump()) +
              ", expected [begin, end]");
  const std::uint64_t bytes = static_cast<std::uint64_t>(t.shape.numel()) * size_of(t.dtype);
  if (range.end < range.begin || range.end - range.begin != bytes)
    file.fail("tensor " + in_quotes(name) + " of shape " + to_string(t.shape) + " needs " +
              std::to_string(bytes) + " bytes, its data_offsets are " + in_quotes(offsets.dump()));
  return {std::move(t), range};
}

void check_ranges(const InputFile& file, std::vector<std::pair<Range, std::string>> ranges,
                  std::uint64_t data_size) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  std::uint64_t expected = 0;
  for (const auto& [range, name] : ranges) {
    if (range.begin != expected)
      file.fail("tensor " + in_quotes(name) + " begins at byte " + std::to_string(range.begin) +
                ", expected " + std::to_string(expected) + ": tensors overlap or leave a hole");
    expected = range.end;
  }
  if (expected != data_size)
    file.fail("it holds " + std::to_string(data_size) + " bytes of data, its header says " +
              std::to_string(expected) + "; it is cut off or damaged");
}

// Hands the bytes of the file to `put`, one piece after the other.
template <class Put>
void stream_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                        const Metadata& metadata, Put&& put) {
  std::vector<const TensorToWrite*> order;
  order.reserve(tensors.size());
  for (const TensorToWrite& t : tensors) order.push_back(&t);
  std::stable_sort(order.begin(), order.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    return size_of(a->dtype) > size_of(b->dtype);
  });
  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const TensorToWrite* t : order) {
    if (header.contains(t->name))
      throw Error("cannot write " + path + ": two tensors are named '" + t->name + "'");
    OrderedJson shape = OrderedJson::array();
    for (int i = 0; i < t->shape.rank; ++i) shape.push_back(static_cast<std::uint64_t>(t->shape[i]));
    const std::uint64_t end = offset + static_cast<std::uint64_t>(t->shape.numel()) * size_of(t->dtype);
    header[t->name] = {{"dtype", spelling(t->dtype)}, {"shape", shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  // Text from outside (class names) may hold bytes that are not UTF-8; they are replaced rather than refused.
  std::string text = header.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins aligned to 8
  std::array<std::uint8_t, 8> prefix{};
  for (std::size_t i = 0; i < 8; ++i)
    prefix[i] = static_cast<std::uint8_t>(std::uint64_t{text.size()} >> (8 * i));
  put(prefix.data(), prefix.size());
  put(text.data(), text.size());
  for (const TensorToWrite* t : order) {
    const std::vector<std::uint8_t> bytes = t->bytes();
    if (bytes.size() != static_cast<std::size_t>(t->shape.numel()) * size_of(t->dtype))
      throw Error("cannot write " + path + ": '" + t->name + "' does not fill its shape " +
                  to_string(t->shape));
    put(bytes.data(), bytes.size());
  }
}

// XXH3 of what it is given piece by piece.
class Summer {
 public:
  Summer() : state_(XXH3_createState()) {
    if (!state_ || XXH3_128bits_reset(state_.get()) != XXH_OK) throw std::bad_alloc();
  }
  void add(const void* bytes, std::size_t n) { XXH3_128bits_update(state_.get(), bytes, n); }
  std::vector<std::uint8_t> digest() const {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
    return {std::begin(canonical.digest), std::end(canonical.digest)};
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* s) const { XXH3_freeState(s); }
  };
  std::unique_ptr<XXH3_state_t, Free> state_;
};
constexpr std::uint64_t kSumBytes = sizeof(XXH128_canonical_t);

}  // namespace

StoredTensors open_safetensors(const std::string& path) {
  const auto file = std::make_shared<const InputFile>(path);
  if (file->size() < 8) file->fail("too short for a safetensors file");
  std::uint64_t header_size = 0;
  for (const std::vector<std::uint8_t> prefix = file->read(0, 8); const int i : {7, 6, 5, 4, 3, 2, 1, 0})
    header_size = header_size << 8 | prefix[static_cast<std::size_t>(i)];
  if (header_size > kMaxHeader || header_size > file->size() - 8)
    file->fail("its header would be " + std::to_string(header_size) +
               " bytes; it is cut off or not a safetensors file");
  const Json header = parse_header(*file, file->read(8, header_size));
  StoredTensors result;
  result.path = path;
  std::vector<std::pair<Range, std::string>> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) file->fail("__metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) file->fail("__metadata__ " + in_quotes(key) + " is not text");
        result.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    auto [tensor, range] = parse_entry(*file, name, entry);
    const std::uint64_t begin = 8 + header_size + range.begin;
    tensor.read = [file, begin, bytes = range.end - range.begin] { return file->read(begin, bytes); };
    tensor.read_part = [file, begin](std::uint64_t offset, std::span<std::uint8_t> bytes) {
      file->read(begin + offset, bytes);
    };
    ranges.emplace_back(range, name);
    result.tensors.push_back(std::move(tensor));
  }
  check_ranges(*file, std::move(ranges), file->size() - 8 - header_size);
  return result;
}

void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                       const Metadata& metadata) {
  AtomicFile file(path);
  stream_safetensors(path, tensors, metadata,
                     [&](const void* bytes, std::size_t n) { file.write(bytes, n); });
  file.commit();
}

void write_summed_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                              const Metadata& metadata, const std::function<void()>& before_replacing) {
  for (const TensorToWrite& t : tensors)
    if (size_of(t.dtype) == 1)  // would come behind the sum, or beside it in the order
      throw Error("cannot write " + path + ": '" + t.name + "' is of one byte an element");
  Summer summer;
  tensors.push_back(
      {kSumName, DType::u8, {static_cast<std::int64_t>(kSumBytes)}, [&] { return summer.digest(); }});
  AtomicFile file(path);
  stream_safetensors(path, tensors, metadata, [&](const void* bytes, std::size_t n) {
    summer.add(bytes, n);
    file.write(bytes, n);
  });
  file.sync();
  if (before_replacing) before_replacing();
  file.commit();
}

void check_sum(const std::string& path) {
  const InputFile file(path);
  if (file.size() < kSumBytes) file.fail("too short to hold its checksum");
  constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;
  const std::uint64_t end = file.size() - kSumBytes;
  Summer summer;
  for (std::uint64_t at = 0; at < end; at += kPiece) {
    const std::vector<std::uint8_t> bytes = file.read(at, std::min(kPiece, end - at));
    summer.add(bytes.data(), bytes.size());
  }
  if (summer.digest() != file.read(end, kSumBytes))
    file.fail("its checksum does not hold: the file was cut off or changed after it was written");
}

}  // namespace cairn::io
