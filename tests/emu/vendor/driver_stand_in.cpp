// A libcuda.so.1 for tests alone, never installed: cuDNN opens it before it compiles a fused kernel. It says
// that there is no device, and lets what was compiled be "loaded", which is all that building a plan asks
// for. Nothing can be launched. Public functions of the driver API only, those that cuDNN looks up.
#include <cstdint>

extern "C" {

// CUresult of cuda.h, which is left out: its prototypes would have to be met by every function here.
enum Result : std::int32_t { kSuccess = 0, kNoDevice = 100 };

Result cuInit(unsigned) { return kNoDevice; }
Result cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
Result cuDeviceGetCount(int* count) {
  *count = 0;
  return kSuccess;
}
Result cuLibraryLoadData(void** library, const void*, void*, void*, unsigned, void*, void*, unsigned) {
  static int loaded;
  *library = &loaded;
  return kSuccess;
}
Result cuLibraryGetKernel(void** kernel, void* library, const char*) {
  *kernel = library;
  return kSuccess;
}
Result cuLibraryUnload(void*) { return kSuccess; }
Result cuGetErrorString(Result, const char** text) {
  *text = "no device: this is a stand-in for tests";
  return kSuccess;
}
Result cuGetErrorName(Result, const char** text) {
  *text = "CUDA_ERROR_NO_DEVICE";
  return kSuccess;
}

#define CAIRN_NO_DEVICE(name) \
  Result name() { return kNoDevice; }
CAIRN_NO_DEVICE(cuCtxGetCurrent)
CAIRN_NO_DEVICE(cuCtxGetDevice)
CAIRN_NO_DEVICE(cuCtxGetLimit)
CAIRN_NO_DEVICE(cuCtxPopCurrent)
CAIRN_NO_DEVICE(cuCtxPushCurrent)
CAIRN_NO_DEVICE(cuDeviceGet)
CAIRN_NO_DEVICE(cuDeviceGetAttribute)
CAIRN_NO_DEVICE(cuDevicePrimaryCtxRelease)
CAIRN_NO_DEVICE(cuDevicePrimaryCtxReset)
CAIRN_NO_DEVICE(cuDevicePrimaryCtxRetain)
CAIRN_NO_DEVICE(cuFuncGetAttribute)
CAIRN_NO_DEVICE(cuFuncSetAttribute)
CAIRN_NO_DEVICE(cuKernelGetAttribute)
CAIRN_NO_DEVICE(cuKernelSetAttribute)
CAIRN_NO_DEVICE(cuLaunchCooperativeKernel)
CAIRN_NO_DEVICE(cuLaunchKernel)
CAIRN_NO_DEVICE(cuLaunchKernelEx)
CAIRN_NO_DEVICE(cuLibraryLoadFromFile)
CAIRN_NO_DEVICE(cuLinkAddData)
CAIRN_NO_DEVICE(cuLinkAddData_v2)
CAIRN_NO_DEVICE(cuLinkAddFile_v2)
CAIRN_NO_DEVICE(cuLinkComplete)
CAIRN_NO_DEVICE(cuLinkCreate)
CAIRN_NO_DEVICE(cuLinkCreate_v2)
CAIRN_NO_DEVICE(cuLinkDestroy)
CAIRN_NO_DEVICE(cuMemcpyDtoH_v2)
CAIRN_NO_DEVICE(cuModuleGetFunction)
CAIRN_NO_DEVICE(cuModuleGetGlobal_v2)
CAIRN_NO_DEVICE(cuModuleLoadData)
CAIRN_NO_DEVICE(cuModuleLoadDataEx)
CAIRN_NO_DEVICE(cuModuleLoadFatBinary)
CAIRN_NO_DEVICE(cuModuleUnload)
CAIRN_NO_DEVICE(cuOccupancyMaxActiveBlocksPerMultiprocessor)
CAIRN_NO_DEVICE(cuOccupancyMaxPotentialClusterSize)
CAIRN_NO_DEVICE(cuStreamGetCtx)
CAIRN_NO_DEVICE(cuStreamSynchronize)
CAIRN_NO_DEVICE(cuTensorMapEncodeTiled)

}  // extern "C"
