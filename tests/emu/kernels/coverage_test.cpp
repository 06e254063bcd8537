// Every kernel of kernels/cuda runs in this program: the process ends with a failure that names those that
// did not. A new kernel without a run is thereby a failing test, of the checked program too.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "kernels/emu/emu.h"
#include "kernels/emu/symbols.h"

namespace cairn {
namespace {

/// The names behind __global__ in the sources.
std::set<std::string> kernel_templates() {
  std::set<std::string> names;
  const std::regex pattern(R"(__global__[^;{]*?\b(\w+)\s*\((?!kBlock|kTile))");
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(std::string(CAIRN_SOURCE_DIR) + "/kernels/cuda")) {
    if (entry.path().extension() != ".cu" && entry.path().extension() != ".h") continue;
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    std::string source = std::regex_replace(text.str(), std::regex(R"(__launch_bounds__\([^)]*\))"), "");
    for (std::sregex_iterator it(source.begin(), source.end(), pattern), end; it != end; ++it)
      names.insert((*it)[1]);
  }
  return names;
}

class EveryKernelRuns : public testing::Environment {
 public:
  void TearDown() override {
    const std::string filter = GTEST_FLAG_GET(filter);
    if (filter != "*") return;  // a part of the tests was asked for
    std::set<std::string> launched;
    for (const emu::KernelCounters& k : emu::counters()) launched.insert(k.kernel);
    const std::set<std::string> templates = kernel_templates();
    std::set<std::string> seen;
    int kernels = 0;
    for (const std::string& name : emu::function_names()) {
      const std::string base = name.substr(0, name.find('<'));
      if (!templates.contains(base)) continue;
      seen.insert(base);
      ++kernels;
      if (!launched.contains(name)) ADD_FAILURE() << "no test here runs " << name;
    }
    EXPECT_EQ(seen, templates) << "a __global__ function without code, or not recognised";
    std::printf("%d kernels of %zu templates have run, %s\n", kernels, templates.size(),
                emu::checked() ? "checked" : "unchecked");
  }
};
const auto* const kEnvironment = testing::AddGlobalTestEnvironment(new EveryKernelRuns);

}  // namespace
}  // namespace cairn
