#include "kernels/emu/recorder.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "kernels/emu/symbols.h"
#include "kernels/error.h"

namespace cairn::emu {

std::atomic<bool> recorder_detail::on{false};

namespace {

/// The file: a line that names its version, then events, each a letter and its fields. Numbers are 8 bytes,
/// strings and byte ranges their length and themselves, all as this machine stores them.
struct File {
  std::mutex mutex;
  std::FILE* stream = nullptr;
  std::string path;

  void begin(char event) { std::fputc(event, stream); }
  void number(std::uint64_t n) { std::fwrite(&n, sizeof n, 1, stream); }
  void number(const void* p) { number(std::uint64_t{reinterpret_cast<std::uintptr_t>(p)}); }
  void real(double x) { std::fwrite(&x, sizeof x, 1, stream); }
  void bytes(const void* p, std::size_t n) {
    number(std::uint64_t{n});
    std::fwrite(p, 1, n, stream);
  }
  void text(const std::string& s) { bytes(s.data(), s.size()); }
};

/// Never destroyed: device memory is given back from static destructors too.
File& file() {
  static auto& f = *new File;
  return f;
}

template <class F>
void write_event(char event, F&& fields) {
  File& f = file();
  const std::lock_guard lock(f.mutex);
  if (!f.stream) return;
  f.begin(event);
  fields(f);
}

/// Of a process that was asked by its environment; its file ends with it.
const bool kAskedFor = [] {
  const char* path = std::getenv("CAIRN_EMU_RECORD");
  if (!path || !*path) return false;
  record_to(path);
  std::atexit([] { stop_recording(); });
  return true;
}();

}  // namespace

void record_to(const std::string& path) {
  File& f = file();
  const std::lock_guard lock(f.mutex);
  if (f.stream) throw Error("[emulated device] a recording is under way, to " + f.path);
  f.stream = std::fopen(path.c_str(), "wb");
  f.path = path;
  if (!f.stream)
    throw Error("[emulated device] cannot make " + path + " to record to: " + std::strerror(errno));
  std::fputs("cairn emulated device recording 1\n", f.stream);
  recorder_detail::on = true;
}

void stop_recording() {
  File& f = file();
  const std::lock_guard lock(f.mutex);
  recorder_detail::on = false;
  if (!f.stream) return;
  const bool whole = std::ferror(f.stream) == 0;
  const bool closed = std::fclose(f.stream) == 0;
  f.stream = nullptr;
  if (!whole || !closed) throw Error("[emulated device] the recording " + f.path + " could not be written");
}

void record_section(const std::string& name) {
  write_event('S', [&](File& f) { f.text(name); });
}

void record_expectation(const std::string& what, const void* device, DType dtype, std::size_t count,
                        const std::vector<double>& want, double tolerance) {
  write_event('E', [&](File& f) {
    f.text(what);
    f.number(device);
    f.number(static_cast<std::uint64_t>(dtype));
    f.real(tolerance);
    f.bytes(want.data(), want.size() * sizeof(double));
    f.bytes(device, count * size_of(dtype));
  });
}

void record_malloc(const void* p, std::size_t bytes) {
  write_event('m', [&](File& f) {
    f.number(p);
    f.number(std::uint64_t{bytes});
  });
}
void record_free(const void* p) {
  write_event('f', [&](File& f) { f.number(p); });
}
void record_write(const void* device, const void* host, std::size_t bytes) {
  write_event('w', [&](File& f) {
    f.number(device);
    f.bytes(host, bytes);
  });
}
void record_read(const void* device, std::size_t bytes) {
  write_event('r', [&](File& f) {
    f.number(device);
    f.bytes(device, bytes);
  });
}
void record_copy(const void* to, const void* from, std::size_t bytes) {
  write_event('c', [&](File& f) {
    f.number(to);
    f.number(from);
    f.number(std::uint64_t{bytes});
  });
}
void record_fill(const void* device, int value, std::size_t bytes) {
  write_event('s', [&](File& f) {
    f.number(device);
    f.number(static_cast<std::uint64_t>(static_cast<unsigned char>(value)));
    f.number(std::uint64_t{bytes});
  });
}

void record_symbol(const void* symbol, const void* host, std::size_t bytes, std::size_t offset) {
  const KernelLibrary* library = library_of(reinterpret_cast<std::uintptr_t>(symbol));
  const KernelLibrary::Symbol* variable = library ? variable_of(*library, symbol) : nullptr;
  write_event('y', [&](File& f) {
    f.text(variable ? variable->name : "");
    f.text(variable ? variable->file : "");
    f.number(std::uint64_t{offset});
    f.bytes(host, bytes);
  });
}

void record_launch(const KernelCall& call, dim3 grid, dim3 block, std::size_t dynamic_shared) {
  const KernelLibrary* library = library_of(reinterpret_cast<std::uintptr_t>(call.function()));
  const KernelLibrary::Symbol* kernel = library ? symbol_of(*library, call.function()) : nullptr;
  write_event('l', [&](File& f) {
    f.text(kernel ? kernel->name : kernel_name(call.function()));
    f.text(kernel ? kernel->file : "");
    for (const dim3& d : {grid, block})
      for (const unsigned n : {d.x, d.y, d.z}) f.number(std::uint64_t{n});
    f.number(std::uint64_t{dynamic_shared});
    f.bytes(call.arguments().data(), call.arguments().size());
  });
}

}  // namespace cairn::emu
