// What g++'s -fsanitize=thread and -fsanitize=bounds make kernels call, in place of those sanitizers' own
// libraries: checked kernel libraries are compiled with these options and never linked with libtsan or
// libubsan. The names and signatures are the compiler's.
#include <cstring>

#include "kernels/emu/checks.h"
#include "kernels/emu/report.h"
#include "kernels/emu/worker.h"

namespace {

using cairn::emu::Access;

void check(const void* p, std::size_t bytes, Access access, bool aligned, void* return_address) {
  // The return address is behind the call and may belong to the next line.
  cairn::emu::check_access(reinterpret_cast<std::uintptr_t>(p), bytes, access, aligned,
                           reinterpret_cast<std::uintptr_t>(return_address) - 1);
}

/// What GCC hands to __ubsan_handle_out_of_bounds.
struct OutOfBounds {
  struct {
    const char* file;
    std::uint32_t line, column;
  } location;
  struct {
    std::uint16_t kind, info;
    char name[1];
  } const *array_type, *index_type;
};

void bounds(const OutOfBounds& data, std::uintptr_t index) {
  if (!cairn::emu::kernel_worker()) return;
  const std::string file = data.location.file;
  const std::string place = file.substr(file.rfind('/') + 1) + ":" + std::to_string(data.location.line);
  cairn::emu::add_report({.defect = cairn::emu::Defect::out_of_bounds,
                          .location = place,
                          .message = "index " + std::to_string(static_cast<std::int64_t>(index)) + " of " +
                                     data.array_type->name});
}

}  // namespace

extern "C" {

#define CAIRN_ACCESS(name, size, access, aligned) \
  void name(void* p) { check(p, size, Access::access, aligned, __builtin_return_address(0)); }
#define CAIRN_ACCESSES(size)                                            \
  CAIRN_ACCESS(__tsan_read##size, size, read, true)                     \
  CAIRN_ACCESS(__tsan_write##size, size, write, true)                   \
  CAIRN_ACCESS(__tsan_volatile_read##size, size, read, true)            \
  CAIRN_ACCESS(__tsan_volatile_write##size, size, write, true)          \
  CAIRN_ACCESS(__tsan_unaligned_read##size, size, read, false)          \
  CAIRN_ACCESS(__tsan_unaligned_write##size, size, write, false)        \
  CAIRN_ACCESS(__tsan_unaligned_volatile_read##size, size, read, false) \
  CAIRN_ACCESS(__tsan_unaligned_volatile_write##size, size, write, false)
CAIRN_ACCESSES(1)
CAIRN_ACCESSES(2)
CAIRN_ACCESSES(4)
CAIRN_ACCESSES(8)
CAIRN_ACCESSES(16)

void __tsan_read_range(void* p, std::size_t bytes) {
  check(p, bytes, Access::read, false, __builtin_return_address(0));
}
void __tsan_write_range(void* p, std::size_t bytes) {
  check(p, bytes, Access::write, false, __builtin_return_address(0));
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// std::atomic and static locals of host code in .cu files: the operations themselves.
#define CAIRN_TSAN_ATOMIC(bits, type)                                                              \
  type __tsan_atomic##bits##_load(const volatile type* p, int) {                                   \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile type* p, type v, int) {                                \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  type __tsan_atomic##bits##_exchange(volatile type* p, type v, int) {                             \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_add(volatile type* p, type v, int) {                            \
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  type __tsan_atomic##bits##_fetch_sub(volatile type* p, type v, int) {                            \
    return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* p, type* c, type v, int, int) { \
    return __atomic_compare_exchange_n(p, c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);        \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* p, type* c, type v, int, int) {   \
    return __atomic_compare_exchange_n(p, c, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);         \
  }
CAIRN_TSAN_ATOMIC(8, std::uint8_t)
CAIRN_TSAN_ATOMIC(32, std::uint32_t)
CAIRN_TSAN_ATOMIC(64, std::uint64_t)

void __ubsan_handle_out_of_bounds(void* data, void* index) {
  bounds(*static_cast<const OutOfBounds*>(data), reinterpret_cast<std::uintptr_t>(index));
}
void __ubsan_handle_out_of_bounds_abort(void* data, void* index) {
  bounds(*static_cast<const OutOfBounds*>(data), reinterpret_cast<std::uintptr_t>(index));
}

}  // extern "C"
