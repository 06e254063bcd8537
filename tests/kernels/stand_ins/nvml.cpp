// The four calls of NVIDIA's management library that kernels/nvml.cpp makes, for one GPU.
#include <cstring>

extern "C" {

int nvmlInit_v2() { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) {
  constexpr int kNotFound = 6;
  if (std::strcmp(id, "0000:65:00.0") != 0) return kNotFound;
  *device = device;
  return 0;
}
int nvmlDeviceGetClockInfo(void*, unsigned type, unsigned* mhz) {
  *mhz = type == 1 ? 1755 : 2619;  // NVML_CLOCK_SM, NVML_CLOCK_MEM
  return type == 1 || type == 2 ? 0 : 2;
}
int nvmlDeviceGetMaxClockInfo(void*, unsigned type, unsigned* mhz) {
  *mhz = type == 1 ? 1980 : 2620;
  return type == 1 || type == 2 ? 0 : 2;
}

}  // extern "C"
