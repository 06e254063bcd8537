#pragma once
/// Kernel libraries: names of their functions, source lines of their code, where their shared memory lies.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cairn::emu {

struct Range {
  std::uintptr_t begin = 0, end = 0;
  bool contains(std::uintptr_t p) const { return p >= begin && p < end; }
};

/// A shared object built by cairn_add_emulated_kernels.
struct KernelLibrary {
  std::string path;
  bool checked = false;
  Range image;                      // code and data
  std::uintptr_t load_address = 0;  // added to the file's addresses
  void* (*tls_anchor)() = nullptr;  // address of a variable in its thread-local segment, made if need be
  std::size_t tls_bytes = 0;

  struct Symbol {
    std::string name;  // mangled
    std::string file;  // "pool.cu" of a symbol that only its file sees, else empty
    std::uintptr_t value = 0;
    std::size_t size = 0;
  };
  std::vector<Symbol> functions;  // by value
  std::vector<Symbol> shared;     // thread-local variables; value = offset in the segment
  std::vector<Symbol> variables;  // __constant__ and __device__ ones among others
};

/// The library that holds the code or data at `p`; null if none.
const KernelLibrary* library_of(std::uintptr_t p);
/// The same for an address of which only the low 32 bits are kept; gives the full address too.
const KernelLibrary* library_of_low(std::uint32_t low, std::uintptr_t* full);
bool any_library_checked();

/// Thread-local segment of the library in the calling operating-system thread: the shared memory of its
/// kernels.
Range shared_segment(const KernelLibrary& library);
/// The names, in the form of kernel_name, of all functions in the loaded libraries, those of the host among
/// them.
std::vector<std::string> function_names();
/// The kernel's entry among `functions`; null in a stripped library.
const KernelLibrary::Symbol* symbol_of(const KernelLibrary& library, const void* function);
/// The variable that starts at `p`, or null.
const KernelLibrary::Symbol* variable_of(const KernelLibrary& library, const void* p);
/// The parts of it that are the kernel's own `__shared__` variables, as offsets; helpers' are not among them.
std::vector<Range> shared_variables(const KernelLibrary& library, const void* kernel);

/// "pool.cu:42" of an instruction, through addr2line and the library's line table; "library+0x1234" without
/// them.
std::string source_line(std::uintptr_t pc);

}  // namespace cairn::emu

/// Called from each kernel library's own initialiser (library.cpp).
extern "C" void cairn_emu_register_library(void* (*tls_anchor)(), int checked);
extern "C" void cairn_emu_unregister_library(void* (*tls_anchor)());
