#include "engine/io/checkpoint.h"

#include <charconv>
#include <map>
#include <span>
#include <vector>

#include "engine/device.h"
#include "engine/io/module_tensors.h"
#include "engine/io/safetensors.h"
#include "kernels/error.h"

namespace cairn::io {
namespace {

constexpr const char* kVersionKey = "cairn_checkpoint";
constexpr const char* kVersion = "2";
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
  check_sum(path);
  return stored;
}

// Where the host computes, memory of the device can be read as it is.
bool host_reads(Device device) { return device.type == DeviceType::cpu; }

}  // namespace

Checkpoint::Checkpoint(const nn::Module& module, const optim::Optimizer& optimizer) : optimizer_(optimizer) {
  const auto add = [&](const std::vector<nn::NamedTensor>& tensors, const char* prefix) {
    for (nn::NamedTensor t : tensors) {
      if (t.tensor.dtype() != DType::f32) throw Error("checkpoint: '" + t.name + "' is not fp32");
      t.name = prefix + t.name;
      tensors_.push_back(std::move(t));
    }
  };
  add(module.named_tensors(), kModelPrefix);
  add(optimizer.state(), kOptimizerPrefix);
  std::int64_t elements = 0;
  for (const nn::NamedTensor& t : tensors_) elements += t.tensor.numel();
  const Device device = tensors_.empty() ? Device() : tensors_.front().tensor.device();
  copy_ = empty({elements}, DType::f32, device);
  if (host_reads(device)) return;
  const kernels::DeviceApi& api = *kernels::device_api(device.type);
  void* host = nullptr;
  check(api.allocate_host(static_cast<std::size_t>(elements) * sizeof(float), &host));
  host_ = static_cast<float*>(host);
  check(api.create_queue(device.index, queue_));
  check(api.create_event(device.index, taken_));
}

Checkpoint::~Checkpoint() {
  if (host_reads(copy_.device())) return;
  const kernels::DeviceApi& api = *kernels::device_api(copy_.device().type);
  if (taken_) static_cast<void>(api.destroy_event(taken_));
  if (host_) static_cast<void>(api.destroy_queue(queue_));
  if (host_) static_cast<void>(api.release_host(host_));
}

void Checkpoint::take() {
  steps_ = optimizer_.steps();
  const kernels::DeviceApi& api = *kernels::device_api(copy_.device().type);
  const kernels::Queue& queue = copy_.queue();
  auto* to = static_cast<float*>(copy_.inplace().data);
  for (const nn::NamedTensor& t : tensors_) {
    const std::int64_t n = t.tensor.numel();
    check(api.copy(queue, to, t.tensor.view().data, static_cast<std::size_t>(n) * sizeof(float),
                   kernels::CopyKind::device_to_device));
    to += n;
  }
  check(api.record_event(queue, taken_));
}

// Waits for the copy on the device, not for the training behind it.
const float* Checkpoint::on_host() {
  if (host_reads(copy_.device())) return static_cast<const float*>(copy_.view().data);
  const kernels::DeviceApi& api = *kernels::device_api(copy_.device().type);
  check(api.queue_wait_event(queue_, taken_));
  check(api.copy(queue_, host_, copy_.view().data, static_cast<std::size_t>(copy_.numel()) * sizeof(float),
                 kernels::CopyKind::device_to_host));
  check(api.synchronize(queue_));
  return host_;
}

void Checkpoint::write(const std::string& path, const std::string& progress,
                       const std::function<void()>& before_replacing) {
  const float* values = on_host();
  std::vector<TensorToWrite> to_write;
  for (const nn::NamedTensor& t : tensors_) {
    const std::span<const float> own(values, static_cast<std::size_t>(t.tensor.numel()));
    to_write.push_back({t.name, DType::f32, nn::file_shape(t.tensor.shape(), t.layout), [own, &t] {
                          return bytes_of(nn::to_file_order<float>(own, t.tensor.shape(), t.layout));
                        }});
    values += own.size();
  }
  write_summed_safetensors(
      path, std::move(to_write),
      {{kVersionKey, kVersion}, {kStepsKey, std::to_string(steps_)}, {kProgressKey, progress}},
      before_replacing);
}

void save_checkpoint(const std::string& path, const nn::Module& module, const optim::Optimizer& optimizer,
                     const std::string& progress) {
  Checkpoint checkpoint(module, optimizer);
  checkpoint.take();
  checkpoint.write(path, progress);
}

std::string load_checkpoint(const std::string& path, nn::Module& module, optim::Optimizer& optimizer) {
  const StoredTensors stored = open(path);
  std::map<std::string, const StoredTensor*> by_name;
  for (const StoredTensor& t : stored.tensors)
    if (t.name != kSumName) by_name[t.name] = &t;
  std::vector<nn::NamedTensor> wanted;
  const auto want = [&](const std::vector<nn::NamedTensor>& tensors, const char* prefix) {
    for (nn::NamedTensor t : tensors) {
      t.name = prefix + t.name;
      wanted.push_back(std::move(t));
    }
  };
  want(module.named_tensors(), kModelPrefix);
  want(optimizer.state(), kOptimizerPrefix);
  if (wanted.size() != by_name.size())
    throw InputError(path + ": holds " + std::to_string(by_name.size()) +
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
  optimizer.buffers().accept();
  optimizer.set_steps(steps);
  return stored.metadata.at(kProgressKey);
}

std::string read_progress(const std::string& path) { return open(path).metadata.at(kProgressKey); }

}  // namespace cairn::io
