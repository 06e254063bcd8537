#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "kernels/dispatch.h"
#include "kernels/lru_cache.h"
#include "kernels/scratch.h"
#include "oneapi/dnnl/dnnl.hpp"

/// What conv.cpp and gemm.cpp share of oneDNN (2.6 and 3.x): engine, primitive construction, the cache of
/// what was constructed, errors as Status.
namespace cairn::kernels::onednn {

const dnnl::engine& engine();
/// A stream of the calling thread; work on it is done when execute() returns.
dnnl::stream& stream();

/// oneDNN computes in bf16 on this CPU (from AVX-512 on). Where it does not, bf16 tensors are widened to fp32
/// in scratch.
bool has_bf16();

dnnl::memory::data_type type_of(DType t);

/// Row-major in the order of `dims`.
dnnl::memory::desc dense(const dnnl::memory::dims& dims, DType type);
/// A layout that the primitive may choose.
dnnl::memory::desc any_layout(const dnnl::memory::dims& dims, DType type);
/// Wraps memory that stays the caller's; oneDNN wants no const, and does not write inputs.
dnnl::memory wrap(const dnnl::memory::desc& desc, const void* data);

/// Attributes of every primitive here: scratch is handed in, never allocated.
dnnl::primitive_attr user_scratch();
void append_relu(dnnl::post_ops& ops);

/// The primitive descriptor for `args` as the operation's C++ constructor takes them, `hint` (a forward
/// descriptor) where it needs one.
template <class Primitive, class... Args>
typename Primitive::primitive_desc describe(const dnnl::primitive_attr& attr, const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Primitive::primitive_desc(engine(), args..., attr);
#else
  return typename Primitive::primitive_desc(typename Primitive::desc(args...), attr, engine());
#endif
}
template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_hinted(const dnnl::primitive_attr& attr, const Hint& hint,
                                                   const Args&... args) {
#if DNNL_VERSION_MAJOR >= 3
  return typename Primitive::primitive_desc(engine(), args..., hint, attr);
#else
  return typename Primitive::primitive_desc(typename Primitive::desc(args...), attr, engine(), hint);
#endif
}

/// A reorder that may be nothing at all: source and destination have one layout and type.
class Reorder {
 public:
  Reorder() = default;
  /// add: the result is added to what the destination holds.
  Reorder(const dnnl::memory::desc& from, const dnnl::memory::desc& to, bool add = false);
  explicit operator bool() const { return static_cast<bool>(primitive_); }
  std::size_t scratchpad_bytes() const { return scratchpad_.get_size(); }
  void run(const void* from, void* to, void* scratchpad) const;

 private:
  dnnl::primitive primitive_;
  dnnl::memory::desc from_, to_, scratchpad_;
};

/// All that a primitive depends on: pass, dtype, shapes, geometry, number of threads. Compared by value.
struct Key {
  std::array<std::int64_t, 32> words{};
  int used = 0;
  /// Starts with the number of threads, which oneDNN bakes into a primitive.
  Key();
  Key& operator<<(std::int64_t word) {
    words.at(static_cast<std::size_t>(used++)) = word;
    return *this;
  }
  Key& operator<<(const Shape& shape);
  auto operator<=>(const Key&) const = default;
};

template <class Plan>
using PlanCache = LruCache<Key, Plan>;

/// Runs f() -> Status; what oneDNN throws becomes a Status that names the op, its shapes and its dtype.
/// what() -> std::string is called on failure only.
template <class What, class F>
Status guarded(const char* op, const What& what, F&& f) {
  try {
    return f();
  } catch (const dnnl::error& e) {
    const bool memory = e.status == dnnl_out_of_memory;
    return Status::error("[" + std::string(op) + "] oneDNN: " + e.what() + " (" + what() + ")",
                         memory ? Status::Code::out_of_memory : Status::Code::failed);
  } catch (const std::bad_alloc&) {
    return Status::error("[" + std::string(op) + "] out of memory (" + what() + ")",
                         Status::Code::out_of_memory);
  } catch (const std::exception& e) {
    return Status::error("[" + std::string(op) + "] " + e.what() + " (" + what() + ")");
  }
}
/// The size of scratch; a failure here is found, and reported, again by the run that follows.
template <class F>
std::size_t guarded_size(F&& f) noexcept {
  try {
    return f();
  } catch (const std::exception&) {
    return 0;
  }
}

}  // namespace cairn::kernels::onednn
