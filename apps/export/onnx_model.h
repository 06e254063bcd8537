#pragma once
#include <string>

#include "apps/model_card.h"
#include "engine/nn/module.h"

namespace cairn::app {

/// The model as an ONNX file's bytes (opset 13). Input "image": uint8 [N,S,S,3], N free; cast, normalisation
/// and the transpose to [N,3,S,S] are in the graph. Output "logits" fp32 [N,classes], or with `softmax`
/// "probabilities". Batch norm is a node of its own. Throws InputError for a model whose graph is not known
/// here, or one beyond the format's 2 GiB.
std::string onnx_model(const nn::Module& model, const ModelCard& card, const io::Metadata& metadata,
                       bool softmax);

}  // namespace cairn::app
