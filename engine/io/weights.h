#pragma once
#include <string>
#include <vector>

#include "engine/io/stored.h"
#include "engine/nn/module.h"

namespace cairn::io {

struct LoadOptions {
  /// Layer whose tensors may have another number of rows than the file's: named and left as they are.
  std::string head = {};
  /// Keep the first values of tensors that the file lacks; else they are an error.
  bool allow_missing = false;
};

struct LoadReport {
  int matched = 0;
  std::vector<std::string> skipped_head;  // "fc.weight [1000,512] in the file, [7,512] in the model"
  std::vector<std::string> missing;       // in the model, not in the file (only with allow_missing)
  std::vector<std::string> extra;         // in the file, not in the model
  Metadata metadata;                      // the file's
  /// One line for people.
  std::string summary() const;
};

/// Reads weights from a .safetensors file or PyTorch's zip .pth/.pt state dict (found out from the content)
/// into the module, wherever it lies. Names may carry a common "module." or "model." prefix or lie under
/// "state_dict". fp16, bf16 and fp64 are converted. Throws InputError in one line naming the file and the
/// tensors where names are missing or shapes differ (the head's excepted) or an archive is damaged; then
/// nothing has been changed. Where a disk fails later, the module is loaded in part.
LoadReport load_weights(nn::Module& module, const std::string& path, const LoadOptions& options = {});

/// Writes parameters and buffers as safetensors under torchvision's names and in PyTorch's order, with
/// num_batches_tracked where PyTorch has it; replaces the file in one step.
void save_weights(const nn::Module& module, const std::string& path, const Metadata& metadata = {});

}  // namespace cairn::io
