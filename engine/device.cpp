#include "engine/device.h"

#include <charconv>
#include <map>
#include <memory>
#include <mutex>

#include "engine/allocator.h"
#include "engine/backend.h"

namespace cairn {
namespace {

/// One compute queue and one allocator a device, made on first use and kept until the process ends: work may
/// still refer to them from static destructors, so they are never destroyed.
struct DeviceState {
  explicit DeviceState(Device device) : allocator(device) {
    check(kernels::device_api(device.type)->create_queue(device.index, queue));
  }
  kernels::Queue queue;
  CachingAllocator allocator;
};

const kernels::DeviceApi& api_of(Device device) {
  if (device.type != DeviceType::cpu) backend_parts();  // loads it
  const kernels::DeviceApi* api = kernels::device_api(device.type);
  if (api) return *api;
  if (device.type == DeviceType::cuda && backend_parts().front().in_build)
    throw InputError("device '" + to_string(device) + "': " + backend_parts().front().found + "; " +
                     backend_parts().front().advice);
  throw InputError("device '" + to_string(device) + "' is not in this build: build the preset '" +
                   (device.type == DeviceType::cpu ? "release" : name_of(device.type)) + "'");
}

/// A working GPU, else the CPU with the reason and the cure.
Device choose_device(std::string& reason) {
  const BackendPart& part = backend_parts().front();
  const kernels::DeviceApi* cuda = kernels::device_api(DeviceType::cuda);
  if (!cuda) {
    reason = part.in_build ? part.found + "; " + part.advice : part.found;
    return {};
  }
  std::string why;
  const int count = cuda->count(why);
  for (int i = 0; i < count; ++i) {
    const std::string fault = device_fault({DeviceType::cuda, i});
    if (fault.empty()) {
      reason = "a working GPU was found: " + cuda->describe(i);
      return {DeviceType::cuda, i};
    }
    why += (why.empty() ? "" : "; ") + ("cuda:" + std::to_string(i) + ": ") + fault;
  }
  reason = why;
  return {};
}

DeviceState& state(Device device) {
  static std::mutex mutex;
  static auto& states = *new std::map<std::pair<DeviceType, int>, std::unique_ptr<DeviceState>>;
  const std::lock_guard lock(mutex);
  auto& slot = states[{device.type, device.index}];
  if (!slot) {
    api_of(device);
    slot = std::make_unique<DeviceState>(device);
  }
  return *slot;
}

}  // namespace

void check(const kernels::Status& status) {
  if (status.ok()) return;
  if (status.code() == kernels::Status::Code::no_kernel) throw DTypeError(status.message());
  throw Error(status.message());
}

Device parse_device(std::string_view text, std::string* reason) {
  std::string why;
  if (text == "auto") {
    const Device device = choose_device(why);
    if (reason) *reason = why;
    return device;
  }
  std::string_view name = text;
  int index = 0;
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    name = text.substr(0, colon);
    const std::string_view digits = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error != std::errc() || end != digits.data() + digits.size() || index < 0)
      throw InputError("device '" + std::string(text) + "': expected a number after ':', as in cuda:0");
  }
  for (int t = 0; t < kDeviceTypeCount; ++t) {
    const auto type = static_cast<DeviceType>(t);
    if (name != name_of(type)) continue;
    const int count = api_of({type, index}).count(why);
    if (index >= count)
      throw InputError("device '" + std::string(text) +
                       "' is not there: " + (count > 0 ? std::to_string(count) + " found" : why) +
                       "; --device cpu works everywhere");
    if (const std::string fault = device_fault({type, index}); !fault.empty())
      throw InputError("device '" + std::string(text) + "' does not work: " + fault);
    if (reason) *reason = "asked for by name";
    return {type, index};
  }
  throw InputError("unknown device '" + std::string(text) + "': one of auto, cpu, cuda, cuda:N, cuda-emu");
}

const kernels::Queue& compute_queue(Device device) {
  const kernels::Queue& queue = state(device).queue;
  // Of several GPUs a thread's launches go to the one that it chose last, if any.
  if (const auto choose = kernels::device_api(device.type)->choose) check(choose(device.index));
  return queue;
}
void allow_tf32(Device device, bool on) { state(device).queue.allow_tf32 = on; }
DType fast_dtype(Device device) { return api_of(device).fast_dtype(device.index); }
void synchronize(Device device) { check(api_of(device).synchronize(compute_queue(device))); }
CachingAllocator& allocator(Device device) { return state(device).allocator; }
MemoryStats memory_stats(Device device) { return allocator(device).stats(); }
void reset_peak_memory(Device device) { allocator(device).reset_peak(); }
void release_cached_memory(Device device) { allocator(device).release_cached(); }

}  // namespace cairn
