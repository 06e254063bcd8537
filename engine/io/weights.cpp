#include "engine/io/weights.h"

#include <algorithm>
#include <array>
#include <exception>
#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "engine/io/input_file.h"
#include "engine/io/module_tensors.h"
#include "engine/io/pth.h"
#include "engine/io/safetensors.h"
#include "engine/nn/layout.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace cairn::io {
namespace {

constexpr std::string_view kBatchCount = "num_batches_tracked";

StoredTensors open_weights(const std::string& path) {
  const InputFile file(path);
  if (file.size() == 0) file.fail("the file is empty");
  const std::vector<std::uint8_t> start = file.read(0, std::min<std::uint64_t>(file.size(), 9));
  if (start.size() >= 4 && start[0] == 'P' && start[1] == 'K' && start[2] == 3 && start[3] == 4)
    return open_pth(path);
  if (start[0] == 0x80)
    file.fail(
        "this is PyTorch's format from before 1.6; load it in PyTorch and torch.save() its state_dict() "
        "again");
  if (start.size() < 9 || start[8] != '{')
    file.fail("neither a safetensors file nor a PyTorch state dict (.pth); it may be cut off");
  return open_safetensors(path);
}

/// Prefixes that wrappers put before every name.
std::string_view common_prefix(const StoredTensors& stored) {
  constexpr std::array<std::string_view, 3> kPrefixes{"module.", "_orig_mod.", "model."};
  for (const std::string_view prefix : kPrefixes)
    if (!stored.tensors.empty() &&
        std::all_of(stored.tensors.begin(), stored.tensors.end(),
                    [&](const StoredTensor& t) { return t.name.starts_with(prefix); }))
      return prefix;
  return {};
}

std::string first_of(const std::vector<std::string>& names) {
  return names[0] + (names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "");
}

/// The file's bytes are known to be there, and the host can write to the tensor.
bool can_read_in_place(const StoredTensor& stored, const Tensor& tensor) {
  return stored.read_part && tensor.device().type == DeviceType::cpu && tensor.dtype() == DType::f32;
}

/// Some rows of the first axis at a time, by all threads: ModelCNN's 206 MB are then touched once, and first
/// touches of memory are what reading costs.
void read_in_place(const StoredTensor& stored, const nn::NamedTensor& mine) {
  constexpr std::int64_t kElements = 1 << 16;  // at a time: they stay in the caches
  const Shape shape = mine.tensor.shape();
  if (shape.numel() == 0) return;
  const std::int64_t rows = shape.rank > 0 ? shape[0] : 1, row = shape.numel() / rows;
  float* const values = mine.tensor.inplace().as<float>();
  const std::int64_t grain = std::max<std::int64_t>(kElements / row, 1);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(kernels::parallel_parts(rows, grain)));
  kernels::parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end, int part) {
    try {
      std::vector<float> filters;
      for (std::int64_t at = begin; at < end; at += grain) {
        const std::int64_t some = std::min(grain, end - at);
        const std::span<float> place(values + at * row, static_cast<std::size_t>(some * row));
        if (mine.layout == nn::Layout::plain) {
          read_floats(stored, at * row, place);
          continue;
        }
        Shape piece = shape;
        piece[0] = some;
        filters.resize(place.size());
        read_floats(stored, at * row, filters);
        nn::for_each_element(piece, mine.layout,
                             [&](std::size_t file, std::size_t engine) { place[engine] = filters[file]; });
      }
    } catch (...) {
      errors[static_cast<std::size_t>(part)] = std::current_exception();
    }
  });
  for (const std::exception_ptr& e : errors)
    if (e) std::rethrow_exception(e);
}

}  // namespace

std::string LoadReport::summary() const {
  std::string line = std::to_string(matched) + " tensors loaded";
  if (!skipped_head.empty()) {
    line += "; the head is left at its first values: ";
    for (std::size_t i = 0; i < skipped_head.size(); ++i) line += (i ? ", " : "") + skipped_head[i];
  }
  if (!missing.empty()) line += "; not in the file: " + first_of(missing);
  if (!extra.empty()) line += "; not in the model: " + first_of(extra);
  return line;
}

LoadReport load_weights(nn::Module& module, const std::string& path, const LoadOptions& options) {
  const StoredTensors stored = open_weights(path);
  const std::string_view prefix = common_prefix(stored);
  std::map<std::string, const StoredTensor*, std::less<>> by_name;
  for (const StoredTensor& t : stored.tensors) by_name[t.name.substr(prefix.size())] = &t;

  LoadReport report;
  report.metadata = stored.metadata;
  std::vector<std::pair<nn::NamedTensor, const StoredTensor*>> matches;
  std::vector<std::string> wrong_shape;
  for (nn::NamedTensor& mine : module.named_tensors()) {
    const auto found = by_name.find(mine.name);
    if (found == by_name.end()) {
      report.missing.push_back(mine.name);
      continue;
    }
    const StoredTensor& theirs = *found->second;
    const Shape wanted = nn::file_shape(mine.tensor.shape(), mine.layout);
    by_name.erase(found);
    if (theirs.shape == wanted) {
      if (!is_floating(theirs.dtype))
        throw InputError(path + ": " + in_quotes(mine.name) + " is " + name_of(theirs.dtype) +
                         ", expected a floating dtype");
      matches.emplace_back(std::move(mine), &theirs);
      continue;
    }
    std::string difference =
        mine.name + ' ' + to_string(theirs.shape) + " in the file, " + to_string(wanted) + " in the model";
    const bool in_head = !options.head.empty() && mine.name.starts_with(options.head + '.');
    (in_head ? report.skipped_head : wrong_shape).push_back(std::move(difference));
  }
  for (const auto& [name, tensor] : by_name)
    if (!name.ends_with(kBatchCount)) report.extra.push_back(name);

  std::string problem;
  const auto add = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) problem += (problem.empty() ? "" : "; ") + std::string(what) + first_of(names);
  };
  add("of another shape: ", wrong_shape);
  if (!options.allow_missing) add("missing: ", report.missing);
  if (!problem.empty()) {
    add("unknown to the model: ", report.extra);
    throw InputError(path + ": these weights are of another model; " + problem);
  }
  if (matches.empty()) throw InputError(path + ": none of its tensors is in the model");

  // What may prove to be damaged as it is read, is read before the first tensor changes.
  std::vector<std::vector<float>> values(matches.size());
  for (std::size_t i = 0; i < matches.size(); ++i)
    if (const auto& [mine, theirs] = matches[i]; !can_read_in_place(*theirs, mine.tensor))
      values[i] = nn::from_file_order<float>(read_floats(*theirs), mine.tensor.shape(), mine.layout);
  for (std::size_t i = 0; i < matches.size(); ++i) {
    const auto& [mine, theirs] = matches[i];
    if (can_read_in_place(*theirs, mine.tensor))
      read_in_place(*theirs, mine);
    else
      mine.tensor.copy_from<float>(values[i]);
  }
  report.matched = static_cast<int>(matches.size());
  return report;
}

void save_weights(const nn::Module& module, const std::string& path, const Metadata& metadata) {
  std::vector<TensorToWrite> tensors;
  for (const nn::NamedTensor& t : module.named_tensors()) {
    tensors.push_back(to_write(t));
    constexpr std::string_view kLastOfBatchNorm = "running_var";
    if (t.name.ends_with(kLastOfBatchNorm)) {
      // PyTorch looks for it and, with a momentum, does not use it.
      const std::string layer = t.name.substr(0, t.name.size() - kLastOfBatchNorm.size());
      tensors.push_back({layer + std::string(kBatchCount), DType::i64, {}, [] {
                           return std::vector<std::uint8_t>(sizeof(std::int64_t));
                         }});
    }
  }
  write_safetensors(path, tensors, metadata);
}

}  // namespace cairn::io
