#include "engine/io/checkpoint.h"

#include <charconv>
#include <map>
#include <vector>

#include "engine/io/module_tensors.h"
#include "engine/io/safetensors.h"
#include "kernels/error.h"

namespace cairn::io {
namespace {

constexpr const char* kVersionKey = "cairn_checkpoint";
constexpr const char* kVersion = "1";
constexpr const char* kStepsKey = "optimizer_steps";
constexpr const char* kProgressKey = "progress";
constexpr const char* kModelPrefix = "model.";
constexpr const char* kOptimizerPrefix = "optimizer.";

StoredTensors open(const std::string& path) {
  StoredTensors stored = open_safetensors(path);
  const auto version = stored.metadata.find(kVersionKey);
  if (version == stored.metadata.end())
    throw InputError(path + ": not a checkpoint of cairn (a file of weights goes to --init)");
  if (version->second != kVersion || !stored.metadata.contains(kStepsKey) ||
      !stored.metadata.contains(kProgressKey))
    throw InputError(path + ": a checkpoint of version " + version->second + ", this program reads version " +
                     kVersion);
  return stored;
}

}  // namespace

void save_checkpoint(const std::string& path, const nn::Module& module, const optim::Optimizer& optimizer,
                     const std::string& progress) {
  std::vector<TensorToWrite> tensors;
  for (const nn::NamedTensor& t : module.named_tensors()) tensors.push_back(to_write(t, kModelPrefix));
  for (const nn::NamedTensor& t : optimizer.state()) tensors.push_back(to_write(t, kOptimizerPrefix));
  write_safetensors(
      path, tensors,
      {{kVersionKey, kVersion}, {kStepsKey, std::to_string(optimizer.steps())}, {kProgressKey, progress}});
}

std::string load_checkpoint(const std::string& path, nn::Module& module, optim::Optimizer& optimizer) {
  const StoredTensors stored = open(path);
  std::map<std::string, const StoredTensor*> by_name;
  for (const StoredTensor& t : stored.tensors) by_name[t.name] = &t;
  std::vector<nn::NamedTensor> wanted;
  const auto want = [&](const std::vector<nn::NamedTensor>& tensors, const char* prefix) {
    for (nn::NamedTensor t : tensors) {
      t.name = prefix + t.name;
      wanted.push_back(std::move(t));
    }
  };
  want(module.named_tensors(), kModelPrefix);
  want(optimizer.state(), kOptimizerPrefix);
  if (wanted.size() != stored.tensors.size())
    throw InputError(path + ": holds " + std::to_string(stored.tensors.size()) +
                     " tensors, this model and optimizer " + std::to_string(wanted.size()) +
                     "; resume with the options of the run");
  // All is read before the first tensor changes.
  std::vector<std::vector<float>> values;
  for (const nn::NamedTensor& t : wanted) {
    const auto found = by_name.find(t.name);
    const Shape shape = nn::file_shape(t.tensor.shape(), t.layout);
    if (found == by_name.end() || found->second->dtype != DType::f32 || found->second->shape != shape)
      throw InputError(path + ": '" + t.name + "' of shape " + to_string(shape) +
                       " is not in it; resume with the options of the run");
    values.push_back(nn::from_file_order<float>(read_floats(*found->second), t.tensor.shape(), t.layout));
  }
  const std::string& steps_text = stored.metadata.at(kStepsKey);
  std::int64_t steps = -1;
  const char* end = steps_text.data() + steps_text.size();
  if (const auto parsed = std::from_chars(steps_text.data(), end, steps);
      parsed.ec != std::errc() || parsed.ptr != end || steps < 0)
    throw InputError(path + ": the optimizer's step count '" + steps_text + "' is not a number");
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i].tensor.copy_from<float>(values[i]);
  optimizer.set_steps(steps);
  return stored.metadata.at(kProgressKey);
}

std::string read_progress(const std::string& path) { return open(path).metadata.at(kProgressKey); }

}  // namespace cairn::io
