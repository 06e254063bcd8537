#include <cctype>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "apps/commands/commands.h"
#include "apps/options.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

namespace fs = std::filesystem;

// The files that are written; @name@ and the like are filled in.
constexpr const char* kElementwise =
#include "apps/new_op/elementwise.cpp.inc"
    ;
constexpr const char* kElementwiseTest =
#include "apps/new_op/elementwise_test.cpp.inc"
    ;
constexpr const char* kComposed =
#include "apps/new_op/composed.cpp.inc"
    ;
constexpr const char* kComposedTest =
#include "apps/new_op/composed_test.cpp.inc"
    ;
constexpr const char* kKernel =
#include "apps/new_op/kernel.cpp.inc"
    ;
constexpr const char* kKernelTest =
#include "apps/new_op/kernel_test.cpp.inc"
    ;
constexpr const char* kModel =
#include "apps/new_op/model.inc"
    ;
constexpr const char* kBenchmark =
#include "apps/new_op/benchmark.cpp.inc"
    ;
constexpr const char* kLists =
#include "apps/new_op/CMakeLists.txt.inc"
    ;

struct Options {
  std::string name;
  std::string kind = "elementwise";
  std::string out;
};

// What differs between the kinds.
struct Kind {
  const char* op;
  const char* test;
  const char* use;         // in the model, behind "model->"
  const char* parameters;  // of the function
  const char* arguments;   // of a call
  const char* tensors;     // that the benchmark makes
  bool cuda;
};

const std::map<std::string, Kind>& kinds() {
  static const std::map<std::string, Kind> table = {
      {"elementwise",
       {kElementwise, kElementwiseTest, "model->add<@Name@Layer>(\"@name@\" + stage);", "const Tensor& x",
        "x", "", true}},
      {"composed",
       {kComposed, kComposedTest, "model->add<@Name@>(\"@name@\" + stage, init, out);",
        "const Tensor& x, const Tensor& scale, const Tensor& shift", "x, scale, shift",
        "  const Tensor scale = full({64}, 1.0, DType::f32, device), shift = full({64}, 0.0, DType::f32, "
        "device);\n",
        false}},
      {"kernel",
       {kKernel, kKernelTest,
        "model->add<@Name@>(\"@name@\" + stage, init, out).add<nn::ReLU>(\"relu\" + stage);",
        "const Tensor& x, const Tensor& scale", "x, scale",
        "  const Tensor scale = full({64}, 1.0, DType::f32, device);\n", true}},
  };
  return table;
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// "layer_scale" -> "LayerScale"
std::string type_name(const std::string& name) {
  std::string type;
  bool upper = true;
  for (const char c : name) {
    if (c != '_') type += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = c == '_';
  }
  return type;
}

void require_name(const std::string& name) {
  constexpr const char* kLetters = "abcdefghijklmnopqrstuvwxyz";
  const bool fits = !name.empty() && name.size() <= 40 &&
                    std::string(kLetters).find(name[0]) != std::string::npos &&
                    name.find_first_not_of(std::string(kLetters) + "0123456789_") == std::string::npos &&
                    name.back() != '_' && name.find("__") == std::string::npos;
  if (!fits)
    throw InputError(
        "an op cannot be called '" + one_line(name) +
        "': use a-z, 0-9 and single _ inside, a letter first, at most 40 characters, e.g. layer_scale");
  // Words of C++, what the files use of cairn, targets of CMake and libraries of the system.
  static const std::set<std::string> taken = {
      "node",     "saved",      "grads",      "storage",   "timing",     "fill",       "add",     "affine",
      "all",      "and",        "asm",        "auto",      "avg_pool2d", "batch_norm", "bool",    "break",
      "c",        "cairn",      "case",       "cast",      "catch",      "char",       "class",   "clean",
      "concat",   "const",      "conv2d",     "delete",    "depend",     "device",     "div",     "dl",
      "do",       "double",     "dropout",    "else",      "emu",        "empty",      "enum",    "error",
      "exp",      "explicit",   "export",     "extern",    "false",      "flatten",    "float",   "for",
      "friend",   "full",       "goto",       "help",      "if",         "inline",     "install", "int",
      "io",       "kernel",     "kernels",    "linear",    "log",        "long",       "m",       "main",
      "matmul",   "max",        "max_pool2d", "mean",      "models",     "module",     "mul",     "namespace",
      "new",      "nn",         "not",        "operator",  "optim",      "or",         "ops",     "package",
      "permute",  "preprocess", "private",    "protected", "pthread",    "public",     "record",  "register",
      "relu",     "reshape",    "return",     "rt",        "shape",      "short",      "sigmoid", "signed",
      "slice",    "softmax",    "sqrt",       "static",    "std",        "struct",     "sub",     "sum",
      "switch",   "tanh",       "template",   "tensor",    "test",       "this",       "throw",   "true",
      "try",      "typedef",    "typename",   "union",     "unsigned",   "using",      "virtual", "void",
      "volatile", "while",      "xor",        "zeros"};
  if (taken.contains(name))
    throw InputError("an op cannot be called '" + name +
                     "', which means something in C++, CMake or cairn: choose another name, e.g. my_" + name);
}

void write_file(const fs::path& path, std::string text, const Kind& kind, const std::string& name) {
  if (text.starts_with('\n')) text.erase(0, 1);
  replace_all(text, "@model@", kModel);
  replace_all(text, "@use@", kind.use);
  replace_all(text, "@parameters@", kind.parameters);
  replace_all(text, "@arguments@", kind.arguments);
  replace_all(text, "@tensors@", kind.tensors);
  replace_all(text, "@cuda@", kind.cuda ? "CUDA " + name + ".cpp " : "");
  replace_all(text, "@name@", name);
  replace_all(text, "@Name@", type_name(name));
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.flush();
  if (!file) throw Error("cannot write " + path.string() + ": is there room, and the right to?");
}

int run(const Options& o) {
  require_name(o.name);
  const Kind& kind = kinds().at(o.kind);
  const fs::path folder = o.out.empty() ? fs::path(o.name) : fs::path(o.out);
  std::error_code error;
  if (fs::exists(folder, error))
    throw InputError(folder.string() + " is there already: remove it, or choose another place with --out");
  if (!fs::create_directories(folder, error))
    throw Error("cannot make the folder " + folder.string() + ": " + error.message());
  write_file(folder / (o.name + ".cpp"), kind.op, kind, o.name);
  write_file(folder / (o.name + "_test.cpp"), kind.test, kind, o.name);
  write_file(folder / (o.name + "_benchmark.cpp"), kBenchmark, kind, o.name);
  write_file(folder / "CMakeLists.txt", kLists, kind, o.name);
  std::printf(
      "%s holds %s.cpp (the op and a small model with it), %s_test.cpp, %s_benchmark.cpp, CMakeLists.txt. "
      "Next:\n"
      "  cd %s && cmake -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build && ctest --test-dir "
      "build\n"
      "  build/%s_benchmark\n"
      "  cairn train --data PHOTOS --plugin build/lib%s.so --model %s_net\n",
      folder.c_str(), o.name.c_str(), o.name.c_str(), o.name.c_str(), folder.c_str(), o.name.c_str(),
      o.name.c_str(), o.name.c_str());
  return 0;
}

}  // namespace

Command add_new_op(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("new-op", "writes the skeleton of an op of your own, which builds and passes");
  const auto o = std::make_shared<Options>();
  command->add_option("NAME", o->name, "of the op, like layer_scale")->required();
  command
      ->add_option(
          "--kind", o->kind,
          "elementwise: a functor; composed: of public ops, no gradient to write; kernel: kernels of its own")
      ->capture_default_str()
      ->check(CLI::IsMember({"elementwise", "composed", "kernel"}));
  command->add_option("--out", o->out, "folder to make (default: NAME)");
  command->footer("Example: cairn new-op layer_scale --kind kernel; docs/custom-ops.md goes on from there");
  return {command, [o] { return run(*o); }};
}

}  // namespace cairn::app
