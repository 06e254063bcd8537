#pragma once
#include <cstdlib>
#include <string>
#include <string_view>

namespace cairn::kernels {

/// Whether CAIRN_WITHOUT in the environment names this part, as in CAIRN_WITHOUT=cudnn,winograd: a library or
/// a fast path that is to be left out, for comparison. docs/speed.md lists the fast paths.
inline bool without(std::string_view name) {
  const char* wish = std::getenv("CAIRN_WITHOUT");
  return wish && (',' + std::string(wish) + ',').find(',' + std::string(name) + ',') != std::string::npos;
}

}  // namespace cairn::kernels
