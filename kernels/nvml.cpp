#include "kernels/nvml.h"

#include <dlfcn.h>

namespace cairn::kernels {
namespace {

// NVML API Reference, "Initialization and Cleanup", "Device Queries". The toolkit may lack nvml.h.
using NvmlDevice = void*;
constexpr int kSuccess = 0;
constexpr unsigned kSmClock = 1, kMemoryClock = 2;  // nvmlClockType_t

struct Nvml {
  int (*init)() = nullptr;
  int (*device_by_bus_id)(const char*, NvmlDevice*) = nullptr;
  int (*clock)(NvmlDevice, unsigned, unsigned*) = nullptr;
  int (*max_clock)(NvmlDevice, unsigned, unsigned*) = nullptr;
};

template <class F>
bool find(void* library, const char* name, F& f) {
  f = reinterpret_cast<F>(dlsym(library, name));
  return f != nullptr;
}

}  // namespace

ClockRates nvml_clock_rates(const std::string& pci_bus_id, const char* library) {
  ClockRates rates;
  void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);  // counted: opened again, it costs nothing
  if (!handle) return rates;
  Nvml nvml;
  NvmlDevice device = nullptr;
  if (!find(handle, "nvmlInit_v2", nvml.init) ||
      !find(handle, "nvmlDeviceGetHandleByPciBusId_v2", nvml.device_by_bus_id) ||
      !find(handle, "nvmlDeviceGetClockInfo", nvml.clock) ||
      !find(handle, "nvmlDeviceGetMaxClockInfo", nvml.max_clock) || nvml.init() != kSuccess ||
      nvml.device_by_bus_id(pci_bus_id.c_str(), &device) != kSuccess)
    return rates;
  const auto read = [&](auto* function, unsigned which) {
    unsigned mhz = 0;
    return function(device, which, &mhz) == kSuccess ? static_cast<int>(mhz) : 0;
  };
  rates.sm = read(nvml.clock, kSmClock);
  rates.memory = read(nvml.clock, kMemoryClock);
  rates.max_sm = read(nvml.max_clock, kSmClock);
  rates.max_memory = read(nvml.max_clock, kMemoryClock);
  return rates;
}

}  // namespace cairn::kernels
