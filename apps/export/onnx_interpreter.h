#pragma once
#include <memory>
#include <string>

#include "apps/model_card.h"
#include "engine/tensor.h"

namespace cairn::app {

/// Reads an ONNX file and computes what its nodes say, one by one, for the few ops that `cairn export`
/// writes: the proof that the file, and not the model it was made of, gives the right answer. Slow and plain
/// on purpose: values keep ONNX's channel-first shapes, nothing is fused.
class OnnxInterpreter {
 public:
  /// Reads the file and lets ONNX's own checker judge it. Throws Error where it is damaged or not valid.
  OnnxInterpreter(const std::string& path, Device device);
  ~OnnxInterpreter();
  OnnxInterpreter(const OnnxInterpreter&) = delete;
  OnnxInterpreter& operator=(const OnnxInterpreter&) = delete;

  int nodes() const;
  io::Metadata metadata() const;
  /// image: uint8 [N,S,S,3] on the host -> the graph's output [N,classes]. Throws Error for an op that is not
  /// known, an attribute or an input that is missing.
  Tensor run(const Tensor& image) const;

 private:
  struct Graph;
  std::unique_ptr<Graph> graph_;
};

}  // namespace cairn::app
