#pragma once
#include <string>

#include "engine/device.h"

namespace cairn::app {

/// Computes a few ops on the device, forward and backward, and holds them against plain loops in double:
/// convolution, batch norm with ReLU, max pooling, linear, softmax cross-entropy. Returns what is wrong in
/// one line, empty where all agree; never throws.
std::string self_test(Device device);

}  // namespace cairn::app
