#include "kernels/dispatch.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "kernels/collective.h"
#include "kernels/device.h"

namespace cairn {

const char* name_of(DType t) {
  constexpr const char* kNames[kDTypeCount] = {"fp32", "fp64", "bf16", "fp16", "uint8", "int32", "int64"};
  return kNames[static_cast<int>(t)];
}

const char* name_of(DeviceType t) {
  constexpr const char* kNames[kDeviceTypeCount] = {"cpu", "cuda", "cuda-emu"};
  return kNames[static_cast<int>(t)];
}

std::string to_string(Device device) {
  std::string s = name_of(device.type);
  return device.type == DeviceType::cpu ? s : s + ':' + std::to_string(device.index);
}

std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (int i = 0; i < shape.rank; ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

Float16::Float16(float f) {
  const auto u = std::bit_cast<std::uint32_t>(f);
  const std::uint32_t sign = (u >> 16) & 0x8000u;
  const std::uint32_t magnitude = u & 0x7FFFFFFFu;
  std::uint32_t h = 0;
  if (magnitude > 0x7F800000u) {
    h = 0x7E00u;  // NaN
  } else if (magnitude >= 0x477FF000u) {
    h = 0x7C00u;  // rounds to infinity
  } else if (magnitude < 0x38800000u) {
    // Subnormal in binary16: adding 0.5 lets the float adder round at the right bit.
    h = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3F000000u;
  } else {
    h = (magnitude + 0xC8000FFFu + ((magnitude >> 13) & 1u)) >> 13;
  }
  bits = static_cast<std::uint16_t>(sign | h);
}

Float16::operator float() const {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u | ((magnitude & 0x3FFu) << 13));
  if (magnitude >= 0x0400u) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

namespace kernels {
namespace {
constinit SlotBase* slots_head = nullptr;
constinit std::mutex slots_mutex;  // plugins may be loaded from any thread
constinit const DeviceApi* device_apis[kDeviceTypeCount] = {};
constinit const CollectiveApi* collective_apis[kDeviceTypeCount] = {};
}  // namespace

void SlotBase::mark(DeviceType device, DType dtype, bool on) {
  const std::lock_guard lock(slots_mutex);
  if (!listed_) {
    listed_ = true;
    next_ = std::exchange(slots_head, this);
  }
  filled_[static_cast<int>(device)][static_cast<int>(dtype)] = on;
}

Status SlotBase::missing(DeviceType device, DType dtype) const {
  std::string available;
  for (int t = 0; t < kDTypeCount; ++t)
    if (filled(device, static_cast<DType>(t)))
      available += (available.empty() ? "" : ", ") + std::string(name_of(static_cast<DType>(t)));
  return Status::error("[" + std::string(name_) + "] no " + name_of(dtype) + " kernel on device '" +
                           name_of(device) + "'; available: " + (available.empty() ? "none" : available),
                       Status::Code::no_kernel);
}

std::vector<const SlotBase*> all_slots() {
  const std::lock_guard lock(slots_mutex);
  std::vector<const SlotBase*> result;
  for (const SlotBase* s = slots_head; s; s = s->next_) result.push_back(s);
  std::sort(result.begin(), result.end(),
            [](auto* a, auto* b) { return std::strcmp(a->name(), b->name()) < 0; });
  return result;
}

const DeviceApi* device_api(DeviceType type) { return device_apis[static_cast<int>(type)]; }
void register_device_api(DeviceType type, const DeviceApi* api) { device_apis[static_cast<int>(type)] = api; }
const CollectiveApi* collective_api(DeviceType type) { return collective_apis[static_cast<int>(type)]; }
void register_collective_api(DeviceType type, const CollectiveApi* api) {
  collective_apis[static_cast<int>(type)] = api;
}

}  // namespace kernels
}  // namespace cairn
