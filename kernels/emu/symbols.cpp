#include "kernels/emu/symbols.h"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>

#include "kernels/emu/emu.h"

namespace cairn::emu {
namespace {

struct Libraries {
  std::mutex mutex;
  std::vector<std::unique_ptr<KernelLibrary>> loaded;
  std::map<const void*, std::unique_ptr<std::string>> names;
  std::map<std::uintptr_t, std::string> lines;
};

/// Never destroyed: libraries unregister from static destructors.
Libraries& libraries() {
  static auto& l = *new Libraries;
  return l;
}

/// Fills in what the loader knows of the object that holds `address`.
void find_image(KernelLibrary& library, std::uintptr_t address) {
  struct Search {
    KernelLibrary* library;
    std::uintptr_t address;
  } search{&library, address};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        const Search& s = *static_cast<Search*>(data);
        Range image{~std::uintptr_t{0}, 0};
        std::size_t tls = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type == PT_TLS) tls = header.p_memsz;
          if (header.p_type != PT_LOAD) continue;
          image.begin = std::min<std::uintptr_t>(image.begin, info->dlpi_addr + header.p_vaddr);
          image.end = std::max<std::uintptr_t>(image.end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
        }
        if (!image.contains(s.address)) return 0;
        s.library->path = info->dlpi_name[0] ? info->dlpi_name : "/proc/self/exe";
        s.library->image = image;
        s.library->load_address = info->dlpi_addr;
        s.library->tls_bytes = tls;
        return 1;
      },
      &search);
}

/// Reads the symbol table; a stripped library has none, and its kernels then go by their addresses.
void read_symbols(KernelLibrary& library) {
  std::ifstream in(library.path, std::ios::binary);
  const auto read_at = [&in](std::uint64_t offset, void* out, std::size_t bytes) {
    in.seekg(static_cast<std::streamoff>(offset));
    in.read(static_cast<char*>(out), static_cast<std::streamsize>(bytes));
    return static_cast<bool>(in);
  };
  Elf64_Ehdr header{};
  if (!read_at(0, &header, sizeof header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return;
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  if (!read_at(header.e_shoff, sections.data(), sections.size() * sizeof(Elf64_Shdr))) return;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
    std::vector<Elf64_Sym> symbols(section.sh_size / sizeof(Elf64_Sym));
    std::string strings(sections[section.sh_link].sh_size, '\0');
    if (!read_at(section.sh_offset, symbols.data(), symbols.size() * sizeof(Elf64_Sym))) return;
    if (!read_at(sections[section.sh_link].sh_offset, strings.data(), strings.size())) return;
    std::string file;  // a file's local symbols follow its name
    for (const Elf64_Sym& symbol : symbols) {
      if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= strings.size()) continue;
      const char* name = strings.c_str() + symbol.st_name;
      const unsigned type = ELF64_ST_TYPE(symbol.st_info);
      if (type == STT_FILE) file = name;
      const std::string owner = ELF64_ST_BIND(symbol.st_info) == STB_LOCAL ? file : "";
      if (type == STT_FUNC) library.functions.push_back({name, owner, symbol.st_value, symbol.st_size});
      if (type == STT_OBJECT) library.variables.push_back({name, owner, symbol.st_value, symbol.st_size});
      if (type == STT_TLS) library.shared.push_back({name, owner, symbol.st_value, symbol.st_size});
    }
  }
  std::sort(library.functions.begin(), library.functions.end(),
            [](const auto& a, const auto& b) { return a.value < b.value; });
}

/// Mangled name of the function that starts at `function`; empty if unknown.
std::string mangled_name(const KernelLibrary& library, const void* function) {
  const auto* symbol = symbol_of(library, function);
  return symbol ? symbol->name : "";
}

void erase_all(std::string& text, const std::string& what) {
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at))
    text.erase(at, what.size());
}

/// "void cairn::kernels::(anonymous namespace)::relu<float>(float const*, ...)" -> "relu<float>"
std::string short_name(const std::string& mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status), std::free);
  if (status != 0) return mangled;
  std::string name = text.get();
  erase_all(name, "(anonymous namespace)::");
  erase_all(name, "cairn::kernels::");
  int depth =
      0;  // parameters start at the first parenthesis outside <>; a return type ends at a blank before it
  std::size_t begin = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
    if (depth != 0) continue;
    if (name[i] == ' ') begin = i + 1;
    if (name[i] == '(') return name.substr(begin, i - begin);
  }
  return name;
}

/// Of addr2line's lines, innermost inlined function first, the first that is not in a header every kernel
/// includes.
std::string users_line(FILE* pipe) {
  std::string first;
  char line[1024];
  while (std::fgets(line, sizeof line, pipe)) {
    std::string text(line);
    text.erase(text.find_last_not_of(" \n") + 1);
    if (const auto note = text.find(" (discriminator"); note != std::string::npos) text.erase(note);
    if (text.starts_with("??") || text.empty()) continue;
    const auto slash = text.rfind('/');
    const std::string base = slash == std::string::npos ? text : text.substr(slash + 1);
    if (first.empty()) first = base;
    const bool common = text.find("/kernels/cuda/launch.h:") != std::string::npos ||
                        text.find("/kernels/emu/") != std::string::npos ||
                        text.find("/include/") != std::string::npos;
    if (!common) return base;
  }
  return first;
}

}  // namespace

const KernelLibrary::Symbol* symbol_of(const KernelLibrary& library, const void* function) {
  const auto value = reinterpret_cast<std::uintptr_t>(function) - library.load_address;
  const auto it = std::lower_bound(library.functions.begin(), library.functions.end(), value,
                                   [](const auto& symbol, std::uintptr_t v) { return symbol.value < v; });
  return it != library.functions.end() && it->value == value ? &*it : nullptr;
}

const KernelLibrary::Symbol* variable_of(const KernelLibrary& library, const void* p) {
  const auto value = reinterpret_cast<std::uintptr_t>(p) - library.load_address;
  const auto it = std::find_if(library.variables.begin(), library.variables.end(),
                               [value](const auto& symbol) { return symbol.value == value; });
  return it != library.variables.end() ? &*it : nullptr;
}

const KernelLibrary* library_of(std::uintptr_t p) {
  const std::lock_guard lock(libraries().mutex);
  for (const auto& library : libraries().loaded)
    if (library->image.contains(p)) return library.get();
  return nullptr;
}

const KernelLibrary* library_of_low(std::uint32_t low, std::uintptr_t* full) {
  const std::lock_guard lock(libraries().mutex);
  for (const auto& library : libraries().loaded) {
    const std::uintptr_t candidate =
        library->image.begin + (low - static_cast<std::uint32_t>(library->image.begin));
    if (!library->image.contains(candidate)) continue;
    *full = candidate;
    return library.get();
  }
  return nullptr;
}

bool any_library_checked() {
  const std::lock_guard lock(libraries().mutex);
  return std::any_of(libraries().loaded.begin(), libraries().loaded.end(),
                     [](const auto& l) { return l->checked; });
}

Range shared_segment(const KernelLibrary& library) {
  library.tls_anchor();
  struct Search {
    std::uintptr_t load_address;
    std::uintptr_t found;
  } search{library.load_address, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        Search& s = *static_cast<Search*>(data);
        if (info->dlpi_addr != s.load_address || !info->dlpi_tls_data) return 0;
        s.found = reinterpret_cast<std::uintptr_t>(info->dlpi_tls_data);
        return 1;
      },
      &search);
  return {search.found, search.found + library.tls_bytes};
}

std::vector<Range> shared_variables(const KernelLibrary& library, const void* kernel) {
  std::vector<Range> out;
  const std::string name = mangled_name(library, kernel);
  if (!name.starts_with("_Z")) return out;
  const std::string prefix = "_ZZ" + name.substr(2) + "E";  // Itanium ABI: a local entity of that function
  for (const auto& symbol : library.shared)
    if (symbol.name.starts_with(prefix)) out.push_back({symbol.value, symbol.value + symbol.size});
  return out;
}

const char* kernel_name(const void* function) {
  const auto address = reinterpret_cast<std::uintptr_t>(function);
  const KernelLibrary* library = library_of(address);
  const std::lock_guard lock(libraries().mutex);
  auto& name = libraries().names[function];
  if (!name) {
    std::string mangled = library ? mangled_name(*library, function) : "";
    char fallback[32];
    std::snprintf(fallback, sizeof fallback, "kernel at 0x%zx", static_cast<std::size_t>(address));
    name = std::make_unique<std::string>(mangled.empty() ? fallback : short_name(mangled));
  }
  return name->c_str();
}

std::vector<std::string> function_names() {
  const std::lock_guard lock(libraries().mutex);
  std::vector<std::string> names;
  for (const auto& library : libraries().loaded)
    for (const auto& symbol : library->functions) names.push_back(short_name(symbol.name));
  return names;
}

bool checked() { return any_library_checked(); }

std::string source_line(std::uintptr_t pc) {
  const KernelLibrary* library = library_of(pc);
  if (!library) return "";
  const std::lock_guard lock(libraries().mutex);
  auto [it, fresh] = libraries().lines.try_emplace(pc);
  if (!fresh) return it->second;
  char offset[24];
  std::snprintf(offset, sizeof offset, "0x%zx", static_cast<std::size_t>(pc - library->load_address));
  const std::string command = "addr2line -i -e '" + library->path + "' " + offset + " 2>/dev/null";
  if (library->path.find('\'') == std::string::npos) {
    if (FILE* pipe = popen(command.c_str(), "r")) {
      it->second = users_line(pipe);
      pclose(pipe);
    }
  }
  if (it->second.empty()) it->second = library->path.substr(library->path.rfind('/') + 1) + "+" + offset;
  return it->second;
}

}  // namespace cairn::emu

extern "C" void cairn_emu_register_library(void* (*tls_anchor)(), int is_checked) {
  using namespace cairn::emu;
  auto library = std::make_unique<KernelLibrary>();
  library->tls_anchor = tls_anchor;
  library->checked = is_checked != 0;
  find_image(*library, reinterpret_cast<std::uintptr_t>(tls_anchor));
  read_symbols(*library);
  const std::lock_guard lock(libraries().mutex);
  libraries().loaded.push_back(std::move(library));
}

extern "C" void cairn_emu_unregister_library(void* (*tls_anchor)()) {
  using namespace cairn::emu;
  const std::lock_guard lock(libraries().mutex);
  std::erase_if(libraries().loaded, [tls_anchor](const auto& l) { return l->tls_anchor == tls_anchor; });
}
