#include "engine/tensor.h"

#include <cstring>

#include "engine/allocator.h"
#include "engine/autograd.h"
#include "engine/dry_run.h"
#include "kernels/pointwise.h"

namespace cairn {
namespace {

const TensorImpl& deref(const std::shared_ptr<TensorImpl>& impl) {
  if (!impl) throw Error("an undefined tensor was used");
  return *impl;
}

void* data_of(const TensorImpl& impl) { return static_cast<char*>(impl.storage->data()) + impl.offset_bytes; }

std::size_t bytes_of(const Tensor& t) { return static_cast<std::size_t>(t.numel()) * size_of(t.dtype()); }

void copy_bytes(Device queue_device, void* dst, const void* src, std::size_t bytes, kernels::CopyKind kind) {
  if (bytes == 0) return;
  if (DryRun::current()) {
    if (kind == kernels::CopyKind::device_to_host) throw Error("a dry run has no values to read");
    return;
  }
  check(kernels::device_api(queue_device.type)->copy(compute_queue(queue_device), dst, src, bytes, kind));
}

std::vector<char> to_host(const Tensor& t) {
  std::vector<char> host(bytes_of(t));
  copy_bytes(t.device(), host.data(), t.view().data, host.size(), kernels::CopyKind::device_to_host);
  synchronize(t.device());
  return host;
}

void from_host(const Tensor& t, const void* host) {
  // `host` has been taken over when this returns, so that nothing waits for the device.
  copy_bytes(t.device(), t.inplace().data, host, bytes_of(t), kernels::CopyKind::host_to_device);
}

void require_dtype(const Tensor& t, DType wanted, const char* what) {
  if (t.dtype() != wanted)
    throw DTypeError("[" + std::string(what) + "] the tensor is " + name_of(t.dtype()) + ", not " +
                     name_of(wanted));
}

}  // namespace

Storage::Storage(std::size_t bytes, Device device)
    : data_(DryRun::current() ? DryRun::current()->allocate(bytes, device)
                              : allocator(device).allocate(bytes)),
      bytes_(bytes),
      device_(device) {}
Storage::~Storage() {
  if (!DryRun::release(data_)) allocator(device_).release(data_);
}

const Shape& Tensor::shape() const { return deref(impl_).shape; }
DType Tensor::dtype() const { return deref(impl_).dtype; }
Device Tensor::device() const { return deref(impl_).storage->device(); }
std::uint64_t Tensor::version() const { return deref(impl_).storage->version(); }

kernels::ConstView Tensor::view() const {
  if (!impl_) return {};
  return {data_of(*impl_), impl_->dtype, impl_->shape};
}
kernels::View Tensor::out() const {
  if (!impl_) return {};
  return {data_of(*impl_), impl_->dtype, impl_->shape};
}
kernels::View Tensor::inplace() const {
  if (impl_) impl_->storage->bump_version();
  return out();
}

bool Tensor::requires_grad() const { return impl_ && (impl_->requires_grad || impl_->grad_fn); }
bool Tensor::is_leaf() const { return !deref(impl_).grad_fn; }

Tensor& Tensor::set_requires_grad(bool on) {
  if (!is_leaf()) throw Error("set_requires_grad: this tensor is the result of an op; detach() it first");
  if (on && !is_floating(dtype()))
    throw DTypeError("set_requires_grad: a tensor of " + std::string(name_of(dtype())) + " has no gradient");
  impl_->requires_grad = on;
  return *this;
}

Tensor Tensor::grad() const { return deref(impl_).grad_arrived ? impl_->grad : Tensor(); }
Tensor Tensor::grad_buffer() const { return deref(impl_).grad; }
void Tensor::zero_grad() { impl_->grad_arrived = false; }

void Tensor::bind_grad(const Tensor& buffer) {
  if (!is_leaf()) throw Error("bind_grad: only leaves keep a gradient");
  if (buffer.shape() != shape() || buffer.dtype() != dtype() || buffer.device() != device())
    throw ShapeError("bind_grad: the buffer is " + to_string(buffer.shape()) + ' ' + name_of(buffer.dtype()) +
                     ", the tensor " + to_string(shape()) + ' ' + name_of(dtype()));
  impl_->grad = buffer;
  impl_->grad_arrived = false;
}

Tensor Tensor::detach() const { return impl_ ? alias(shape()) : Tensor(); }

Tensor Tensor::alias(const Shape& new_shape, std::int64_t element_offset) const {
  const TensorImpl& old = deref(impl_);
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = old.storage;
  impl->offset_bytes = old.offset_bytes + static_cast<std::size_t>(element_offset) * size_of(old.dtype);
  impl->shape = new_shape;
  impl->dtype = old.dtype;
  const std::size_t end =
      impl->offset_bytes + static_cast<std::size_t>(new_shape.numel()) * size_of(old.dtype);
  if (element_offset < 0 || end > old.storage->bytes())
    throw ShapeError("alias: shape " + to_string(new_shape) + " at element " +
                     std::to_string(element_offset) + " reaches beyond the memory of " +
                     to_string(old.shape));
  return Tensor(std::move(impl));
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  require_dtype(*this, dtype_of<T>, "to_vector");
  std::vector<T> values(static_cast<std::size_t>(numel()));
  const std::vector<char> host = to_host(*this);
  if (!host.empty()) std::memcpy(values.data(), host.data(), host.size());
  return values;
}
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<BFloat16> Tensor::to_vector() const;
template std::vector<Float16> Tensor::to_vector() const;
template std::vector<std::uint8_t> Tensor::to_vector() const;
template std::vector<std::int32_t> Tensor::to_vector() const;
template std::vector<std::int64_t> Tensor::to_vector() const;

std::vector<double> Tensor::to_doubles() const {
  const auto widen = [](const auto& values, auto convert) {
    std::vector<double> result;
    result.reserve(values.size());
    for (const auto& v : values) result.push_back(convert(v));
    return result;
  };
  const auto via_float = [](const auto& v) { return static_cast<double>(static_cast<float>(v)); };
  switch (dtype()) {
    case DType::f64:
      return to_vector<double>();
    case DType::f32:
      return widen(to_vector<float>(), via_float);
    case DType::bf16:
      return widen(to_vector<BFloat16>(), via_float);
    case DType::f16:
      return widen(to_vector<Float16>(), via_float);
    case DType::i32:
      return widen(to_vector<std::int32_t>(), [](std::int32_t v) { return static_cast<double>(v); });
    case DType::i64:
      return widen(to_vector<std::int64_t>(), [](std::int64_t v) { return static_cast<double>(v); });
    case DType::u8:
      return widen(to_vector<std::uint8_t>(), [](std::uint8_t v) { return static_cast<double>(v); });
  }
  return {};
}

double Tensor::item() const {
  if (numel() != 1) throw ShapeError("item(): the tensor is " + to_string(shape()) + ", not one element");
  return to_doubles()[0];
}

template <class T>
void Tensor::copy_from(std::span<const T> values) const {
  require_dtype(*this, dtype_of<T>, "copy_from");
  if (static_cast<std::int64_t>(values.size()) != numel())
    throw ShapeError("copy_from: " + std::to_string(values.size()) + " values for a tensor of " +
                     to_string(shape()));
  from_host(*this, values.data());
}
template void Tensor::copy_from(std::span<const float>) const;
template void Tensor::copy_from(std::span<const double>) const;
template void Tensor::copy_from(std::span<const BFloat16>) const;
template void Tensor::copy_from(std::span<const Float16>) const;
template void Tensor::copy_from(std::span<const std::uint8_t>) const;
template void Tensor::copy_from(std::span<const std::int32_t>) const;
template void Tensor::copy_from(std::span<const std::int64_t>) const;

Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor result = empty(shape(), dtype(), device);
  if (DryRun::current()) return result;
  const std::vector<char> host = to_host(*this);
  from_host(result, host.data());
  return result;
}

Tensor Tensor::to(DType dtype) const {
  if (dtype == this->dtype()) return *this;
  Tensor result = empty(shape(), dtype, device());
  call(kernels::cast, queue(), {view(), result.out(), kernels::Write::assign});
  return result;
}

Tensor empty(const Shape& shape, DType dtype, Device device) {
  for (int i = 0; i < shape.rank; ++i)
    if (shape[i] < 0) throw ShapeError("empty: shape " + to_string(shape) + " has a negative length");
  auto impl = std::make_shared<TensorImpl>();
  impl->storage = std::make_shared<Storage>(static_cast<std::size_t>(shape.numel()) * size_of(dtype), device);
  impl->shape = shape;
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

Tensor empty_like(const Tensor& t) { return empty(t.shape(), t.dtype(), t.device()); }

Tensor full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  call(kernels::fill_value, t.queue(), {t.out(), value});
  return t;
}

Tensor zeros(const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  if (!DryRun::current())
    check(kernels::device_api(device.type)->fill_zero(t.queue(), t.out().data, bytes_of(t)));
  return t;
}

template <class T>
Tensor from_values(const Shape& shape, std::span<const T> values, Device device) {
  Tensor t = empty(shape, dtype_of<T>, device);
  t.copy_from(values);
  return t;
}
template Tensor from_values(const Shape&, std::span<const float>, Device);
template Tensor from_values(const Shape&, std::span<const double>, Device);
template Tensor from_values(const Shape&, std::span<const BFloat16>, Device);
template Tensor from_values(const Shape&, std::span<const Float16>, Device);
template Tensor from_values(const Shape&, std::span<const std::uint8_t>, Device);
template Tensor from_values(const Shape&, std::span<const std::int32_t>, Device);
template Tensor from_values(const Shape&, std::span<const std::int64_t>, Device);

Tensor from_doubles(const Shape& shape, std::span<const double> values, DType dtype, Device device) {
  const auto narrowed = [&]<class T>(T) {
    std::vector<T> v;
    v.reserve(values.size());
    for (const double d : values) v.push_back(T(static_cast<float>(d)));
    return from_values<T>(shape, v, device);
  };
  switch (dtype) {
    case DType::f64:
      return from_values<double>(shape, values, device);
    case DType::f32:
      return narrowed(float{});
    case DType::bf16:
      return narrowed(BFloat16{});
    case DType::f16:
      return narrowed(Float16{});
    default:
      throw DTypeError("from_doubles: " + std::string(name_of(dtype)) + " is not a floating dtype");
  }
}

}  // namespace cairn
