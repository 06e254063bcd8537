// Clock rates and, on the emulated device, counters.
#include "kernels/measuring.h"

#include "kernels/cuda/status.h"
#if defined(CAIRN_CUDA_EMU)
#include "kernels/emu/emu.h"
#else
#include "kernels/nvml.h"
#endif

namespace cairn::kernels {
namespace {

#if defined(CAIRN_CUDA_EMU)
constexpr MeasureApi kApi = {
    .counters = &emu::counters,
    .reset_counters = &emu::reset_counters,
    .set_counter_sampling = &emu::set_counter_sampling,
    .counts_traffic = &emu::checked,
};
#else
ClockRates clock_rates(int index) {
  char bus_id[32] = {};
  if (cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, index) != cudaSuccess) return {};
  return nvml_clock_rates(bus_id);
}
constexpr MeasureApi kApi = {.clock_rates = &clock_rates};
#endif
[[maybe_unused]] const bool kRegistered = (register_measure_api(kCudaDevice, &kApi), true);

}  // namespace
}  // namespace cairn::kernels
