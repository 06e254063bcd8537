#include "engine/device.h"

#include <charconv>
#include <map>
#include <memory>
#include <mutex>

#include "engine/allocator.h"

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
  const kernels::DeviceApi* api = kernels::device_api(device.type);
  if (!api)
    throw InputError("device '" + to_string(device) + "' is not in this build: build the preset '" +
                     (device.type == DeviceType::cpu ? "release" : name_of(device.type)) + "'");
  return *api;
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
  const auto say = [&](std::string why) {
    if (reason) *reason = std::move(why);
  };
  if (text == "auto") {
    std::string why;
    const kernels::DeviceApi* cuda = kernels::device_api(DeviceType::cuda);
    if (!cuda) {
      say("no CUDA backend in this build");
    } else if (cuda->count(why) > 0) {
      say("a working GPU was found: " + cuda->describe(0));
      return {DeviceType::cuda, 0};
    } else {
      say(why);
    }
    return {};
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
    std::string why;
    const int count = api_of({type, index}).count(why);
    if (index >= count)
      throw InputError("device '" + std::string(text) +
                       "' is not there: " + (count > 0 ? std::to_string(count) + " found" : why) +
                       "; --device cpu works everywhere");
    say("asked for by name");
    return {type, index};
  }
  throw InputError("unknown device '" + std::string(text) + "': one of auto, cpu, cuda, cuda:N, cuda-emu");
}

const kernels::Queue& compute_queue(Device device) { return state(device).queue; }
void synchronize(Device device) { check(api_of(device).synchronize(compute_queue(device))); }
CachingAllocator& allocator(Device device) { return state(device).allocator; }
MemoryStats memory_stats(Device device) { return allocator(device).stats(); }
void reset_peak_memory(Device device) { allocator(device).reset_peak(); }
void release_cached_memory(Device device) { allocator(device).release_cached(); }

}  // namespace cairn
