#pragma once
#include <string>

#include "kernels/measuring.h"

namespace cairn::kernels {

/// A GPU's clock rates from NVIDIA's management library, which comes with the driver and is loaded here by
/// name. `pci_bus_id` as cudaDeviceGetPCIBusId has it. All 0 where the library or the GPU is not there.
ClockRates nvml_clock_rates(const std::string& pci_bus_id, const char* library = "libnvidia-ml.so.1");

}  // namespace cairn::kernels
