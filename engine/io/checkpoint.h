#pragma once
#include <cstdint>
#include <string>

#include "engine/nn/module.h"
#include "engine/optim/optimizer.h"

namespace cairn::io {

/// Writes all that an exact resume needs: parameters, buffers, the optimiser's state and step count, and
/// `progress`, text of the caller's own (JSON: epoch, best, random step ...). One safetensors file, replaced
/// in one step.
void save_checkpoint(const std::string& path, const nn::Module& module, const optim::Optimizer& optimizer,
                     const std::string& progress);
/// Restores it bit for bit and returns `progress`. Throws InputError in one line for a damaged file or one of
/// another model or optimiser; then nothing has been changed.
std::string load_checkpoint(const std::string& path, nn::Module& module, optim::Optimizer& optimizer);
/// `progress` and nothing else: what a resume needs to know before it builds the model.
std::string read_progress(const std::string& path);

}  // namespace cairn::io
