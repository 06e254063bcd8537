#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/device.h"
#include "kernels/view.h"

namespace cairn {

struct TensorImpl;
struct Node;

/// Memory of one or more tensors. The version counts in-place writes, so that backward can tell that a tensor
/// it saved was overwritten.
class Storage {
 public:
  Storage(std::size_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  std::uint64_t version() const { return version_; }
  void bump_version() { ++version_; }

 private:
  void* data_;
  std::size_t bytes_;
  Device device_;
  std::uint64_t version_ = 0;
};

/// A contiguous, row-major array of up to four axes on one device, a shared handle as in PyTorch: copying a
/// Tensor copies the handle. Images are [N,H,W,C], filters [K,R,S,C/groups]; only files hold PyTorch's
/// channel-first order. A default-constructed Tensor is undefined and stands for "absent".
class Tensor {
 public:
  Tensor() = default;

  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const;
  std::int64_t size(int axis) const { return shape()[axis]; }
  int rank() const { return shape().rank; }
  std::int64_t numel() const { return shape().numel(); }
  DType dtype() const;
  Device device() const;
  const kernels::Queue& queue() const { return compute_queue(device()); }

  /// For kernels that read.
  kernels::ConstView view() const;
  /// For kernels that write a tensor just made by empty(), which nobody has saved.
  kernels::View out() const;
  /// For kernels that change a tensor that others may hold: counts a version.
  kernels::View inplace() const;
  std::uint64_t version() const;

  bool requires_grad() const;
  /// Marks a leaf (parameter). Throws Error on a tensor that an op made.
  Tensor& set_requires_grad(bool on = true);
  bool is_leaf() const;
  /// The gradient of a leaf after backward(); undefined if none arrived since zero_grad().
  Tensor grad() const;
  /// Makes `buffer` (this leaf's shape and dtype, e.g. a slice of one flat buffer) the place where gradients
  /// land.
  void bind_grad(const Tensor& buffer);
  /// The bound buffer, whether or not a gradient has arrived.
  Tensor grad_buffer() const;
  /// The next gradient assigns instead of adding. Costs nothing: no memory is cleared.
  void zero_grad();

  /// The same memory outside the tape.
  Tensor detach() const;
  /// The same memory under another shape with as many elements, outside the tape (the op is reshape()).
  Tensor alias(const Shape& shape, std::int64_t element_offset = 0) const;
  /// Runs the tape backward from this scalar with gradient 1 (or from any tensor with `gradient`, of its
  /// shape and dtype). What the tape saved is freed as it goes.
  void backward(const Tensor& gradient = {}) const;

  /// Copies to the host, waiting for the device. T must match the dtype.
  template <class T>
  std::vector<T> to_vector() const;
  /// Any floating dtype, as doubles on the host.
  std::vector<double> to_doubles() const;
  /// The only element, converted to double.
  double item() const;
  /// Copies host values in (in place, counts a version), without waiting for the device. T must match the
  /// dtype. Values in pinned memory (DeviceApi::allocate_host) have to stay as they are until the device has
  /// read them.
  template <class T>
  void copy_from(std::span<const T> values) const;
  /// A copy on another device or of another floating dtype, outside the tape; itself if nothing changes.
  Tensor to(Device device) const;
  Tensor to(DType dtype) const;

  const std::shared_ptr<TensorImpl>& impl() const { return impl_; }
  explicit Tensor(std::shared_ptr<TensorImpl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<TensorImpl> impl_;
};

struct TensorImpl {
  std::shared_ptr<Storage> storage;
  std::size_t offset_bytes = 0;
  Shape shape;
  DType dtype = DType::f32;
  bool requires_grad = false;
  std::shared_ptr<Node> grad_fn;  // null for leaves
  Tensor grad;                    // leaves only
  bool grad_arrived = false;
};

/// Uninitialised memory.
Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = {});
Tensor empty_like(const Tensor& t);
Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = {});
Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = {});
/// From host values; the dtype is T's.
template <class T>
Tensor from_values(const Shape& shape, std::span<const T> values, Device device = {});
/// From doubles, rounded to a floating dtype.
Tensor from_doubles(const Shape& shape, std::span<const double> values, DType dtype = DType::f32,
                    Device device = {});

}  // namespace cairn
