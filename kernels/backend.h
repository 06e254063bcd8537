#pragma once
#include <cstddef>

/// What the shared objects of the CUDA backend export, for engine/backend.cpp to find by name. Plain C: the
/// objects are loaded at run time. Each writes one line of text, cut to `size` bytes, and answers 0 for
/// success.
extern "C" {

/// libcairn_cuda.so: launches a kernel on the device and compares what it computed. On failure `text` says
/// what is wrong and what to do.
using CairnCudaSelfTest = int(int device, char* text, std::size_t size);
CairnCudaSelfTest cairn_cuda_self_test;

/// A provider (libcairn_cudnn.so, libcairn_cublaslt.so): fills its slots in place of the plain kernels.
/// `text` is the library's name and version, or why it cannot be used.
using CairnProviderStart = int(char* text, std::size_t size);
CairnProviderStart cairn_provider_start;

/// libcairn_emu.so: what the checks of the emulated device have found since the last call. Answers how many.
using CairnEmuTakeDefects = int(char* text, std::size_t size);
CairnEmuTakeDefects cairn_emu_take_defects;
}
