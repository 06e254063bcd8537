#include "engine/io/pth.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>

#include "engine/io/pickle.h"
#include "engine/io/zip.h"

namespace cairn::io {
namespace {

using pickle::Kind;
using pickle::Value;

/// The archive, and the storage read last: tensors often share one, and lie in the file one behind another.
struct Archive {
  explicit Archive(const std::string& path) : zip(path) {}
  ZipFile zip;
  std::string folder;
  std::string last_key;
  std::shared_ptr<const std::vector<std::uint8_t>> last;

  std::shared_ptr<const std::vector<std::uint8_t>> storage(const pickle::StorageRef& s) {
    if (!last || last_key != s.key) {
      last = std::make_shared<const std::vector<std::uint8_t>>(zip.read(folder + "data/" + s.key));
      last_key = s.key;
    }
    if (last->size() / size_of(s.dtype) < s.elements)
      zip.file().fail("storage " + in_quotes(s.key) + " is shorter than its tensors; the file is damaged");
    return last;
  }
};

std::string folder_of_pickle(const ZipFile& zip) {
  for (const auto& [name, entry] : zip.entries())
    if (name == "data.pkl" || name.ends_with("/data.pkl")) return name.substr(0, name.size() - 8);
  zip.file().fail("it holds no data.pkl: not a state dict saved by torch.save");
}

const Value* find(const Value& dict, std::string_view key) {
  for (const auto& [k, v] : dict.entries)
    if (k->kind == Kind::text && k->text == key) return v;
  return nullptr;
}

bool has_tensors(const Value& dict) {
  return std::any_of(dict.entries.begin(), dict.entries.end(),
                     [](const auto& e) { return e.second->kind == Kind::tensor; });
}

const Value& state_dict(const InputFile& file, const Value& root) {
  if (root.kind == Kind::dict) {
    if (has_tensors(root)) return root;
    for (const char* key : {"state_dict", "model_state_dict", "model"})
      if (const Value* inner = find(root, key); inner && inner->kind == Kind::dict && has_tensors(*inner))
        return *inner;
  }
  file.fail("it holds no state dict: no names with tensors, nor any under 'state_dict' or 'model'");
}

/// Checks that every element lies in the storage.
void check_bounds(const InputFile& file, const std::string& name, const Value& t) {
  const auto fail = [&] {
    file.fail("tensor " + in_quotes(name) + " reaches beyond its storage; the file is damaged");
  };
  if (t.size.size() > static_cast<std::size_t>(kMaxRank))
    file.fail("tensor " + in_quotes(name) + " has " + std::to_string(t.size.size()) + " axes, at most " +
              std::to_string(kMaxRank) + " are known");
  const std::uint64_t elements = t.storage.elements;
  if (std::find(t.size.begin(), t.size.end(), 0) != t.size.end()) return;
  auto last = static_cast<std::uint64_t>(t.offset);
  std::uint64_t count = 1;
  for (std::size_t axis = 0; axis < t.size.size(); ++axis) {
    const auto steps = static_cast<std::uint64_t>(t.size[axis]) - 1;
    const auto stride = static_cast<std::uint64_t>(t.stride[axis]);
    if (steps > 0 && stride > elements / steps) fail();
    last += steps * stride;
    if (last >= elements) fail();
    // An expanded tensor (stride 0) may be larger than its storage, but not without bound.
    constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 34;
    if (count > kMaxElements / (steps + 1)) fail();
    count *= steps + 1;
  }
  if (last >= elements) fail();
}

std::vector<std::uint8_t> gather(const std::vector<std::uint8_t>& storage, const Value& t,
                                 const Shape& shape) {
  const std::size_t width = size_of(t.storage.dtype);
  std::vector<std::uint8_t> out(static_cast<std::size_t>(shape.numel()) * width);
  std::int64_t index[kMaxRank] = {};
  for (std::size_t at = 0; at < out.size(); at += width) {
    std::int64_t element = t.offset;
    for (int axis = 0; axis < shape.rank; ++axis)
      element += index[axis] * t.stride[static_cast<std::size_t>(axis)];
    std::memcpy(out.data() + at, storage.data() + static_cast<std::size_t>(element) * width, width);
    for (int axis = shape.rank - 1; axis >= 0 && ++index[axis] == shape[axis]; --axis) index[axis] = 0;
  }
  return out;
}

}  // namespace

StoredTensors open_pth(const std::string& path) {
  const auto archive = std::make_shared<Archive>(path);
  const InputFile& file = archive->zip.file();
  archive->folder = folder_of_pickle(archive->zip);
  const std::string order_name = archive->folder + "byteorder";
  if (archive->zip.entries().contains(order_name)) {
    const std::vector<std::uint8_t> order = archive->zip.read(order_name);
    if (std::string(order.begin(), order.end()) != "little")
      file.fail("it was saved on a big-endian machine");
  }
  const std::string pickle_name = archive->folder + "data.pkl";
  // ResNet-18's is 10 kB; each byte may cost 200 in memory.
  constexpr std::uint64_t kMaxPickle = 4 << 20;
  if (archive->zip.entries().at(pickle_name).size > kMaxPickle)
    file.fail("its data.pkl is too large for a state dict");
  const auto document =
      std::make_shared<const pickle::Document>(pickle::parse(file, archive->zip.read(pickle_name)));
  StoredTensors result;
  result.path = path;
  std::set<std::string> names;
  for (const auto& [key, value] : state_dict(file, *document->root).entries) {
    if (key->kind != Kind::text || value->kind != Kind::tensor) continue;
    if (!names.insert(key->text).second)
      file.fail("tensor " + in_quotes(key->text) + " stands in the file twice");
    check_bounds(file, key->text, *value);
    StoredTensor t;
    t.name = key->text;
    t.dtype = value->storage.dtype;
    for (const std::int64_t axis : value->size) t.shape[t.shape.rank++] = axis;
    t.read = [archive, document, value = value, shape = t.shape] {
      if (shape.numel() == 0) return std::vector<std::uint8_t>();
      return gather(*archive->storage(value->storage), *value, shape);
    };
    result.tensors.push_back(std::move(t));
  }
  return result;
}

}  // namespace cairn::io
