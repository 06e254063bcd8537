#pragma once
// libonnx is built with these names, and its headers ask for them.
#define ONNX_ML 1
#define ONNX_NAMESPACE onnx
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>
