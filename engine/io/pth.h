#pragma once
#include <string>

#include "engine/io/stored.h"

namespace cairn::io {

/// Opens a state dict that torch.save wrote (zip format, PyTorch 1.6 and later): a dict of tensors, or a dict
/// that holds one under "state_dict", "model_state_dict" or "model". Runs no code from the file. Tensors come
/// out contiguous, whatever their strides. Throws InputError naming the file.
StoredTensors open_pth(const std::string& path);

}  // namespace cairn::io
