#pragma once
#include <stdexcept>
#include <string>

namespace cairn {

/// What cairn throws. The message is one line: what went wrong, where (op, tensor, file, layer), what to do.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shapes or geometry that do not fit together.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A data type that an op, a kernel or a device does not serve.
class DTypeError : public Error {
 public:
  using Error::Error;
};

/// A file, option or value from outside that cannot be used; programs exit with status 2.
class InputError : public Error {
 public:
  using Error::Error;
};

}  // namespace cairn
