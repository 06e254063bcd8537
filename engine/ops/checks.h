#pragma once
#include <string>

#include "engine/tensor.h"
#include "kernels/error.h"

/// What ops check of their arguments, with one wording.
namespace cairn::ops {

inline std::string describe(const Tensor& t) { return to_string(t.shape()) + ' ' + name_of(t.dtype()); }

inline void require(bool ok, const char* op, const std::string& message) {
  if (!ok) throw ShapeError('[' + std::string(op) + "] " + message);
}

inline void require_rank(const Tensor& t, int rank, const char* op, const char* what) {
  require(t.rank() == rank, op,
          std::string(what) + " is " + to_string(t.shape()) + ", expected " + std::to_string(rank) + " axes");
}

/// The dtype of parameters and statistics that go with a compute dtype.
inline DType parameter_dtype(DType compute) { return compute == DType::f64 ? DType::f64 : DType::f32; }

inline void require_floating(const Tensor& t, const char* op) {
  if (!is_floating(t.dtype()))
    throw DTypeError('[' + std::string(op) + "] needs a floating dtype, got " + name_of(t.dtype()) +
                     "; cast or preprocess first");
}

inline void require_dtype(const Tensor& t, DType dtype, const char* op, const char* what) {
  if (t.dtype() != dtype)
    throw DTypeError('[' + std::string(op) + "] " + what + " is " + name_of(t.dtype()) + ", expected " +
                     name_of(dtype));
}

inline void require_same_device(const Tensor& a, const Tensor& b, const char* op, const char* what) {
  if (a.device() != b.device())
    throw Error('[' + std::string(op) + "] " + what + " is on " + to_string(b.device()) + ", the input on " +
                to_string(a.device()) + "; move one with to()");
}

/// A parameter of an op on x: fp32 (fp64 for fp64 x), of the given shape, on x's device.
inline void require_parameter(const Tensor& x, const Tensor& p, const Shape& shape, const char* op,
                              const char* what) {
  if (!p.defined()) throw ShapeError('[' + std::string(op) + "] " + what + " is undefined");
  require(p.shape() == shape, op,
          std::string(what) + " is " + to_string(p.shape()) + ", expected " + to_string(shape));
  require_dtype(p, parameter_dtype(x.dtype()), op, what);
  require_same_device(x, p, op, what);
}

}  // namespace cairn::ops
