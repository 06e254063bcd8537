#pragma once
#include <string>

#include "engine/device.h"

namespace cairn::app {

/// What `--precision auto` is on a device, and why, for people: "fp32", "bf16 takes 1.31 times as long here".
struct FastPrecision {
  std::string name;  // "fp32", "bf16" or "fp16"
  std::string why;
};

/// On a GPU what its tensor cores take. On a CPU with bf16 instructions it is tried out: a training step of
/// ResNet-18 (8 images of 224x224) in either, the better of two after one to warm up, some two seconds; bf16
/// has to be 5 % quicker. The answer is kept in the user's cache folder for this CPU model, number of threads
/// and version of oneDNN, and whoever finds one there takes it, so that later runs compute in the same.
FastPrecision fast_precision(Device device);

/// `precision` itself, or for "auto" what fast_precision() answers.
std::string settled_precision(const std::string& precision, Device device);

/// The dtype of activations for a precision by name: fp32 for "tf32". Throws InputError for "auto", which has
/// to be found out first, and for what the device does not train in.
DType precision_dtype(const std::string& precision, Device device);

}  // namespace cairn::app
