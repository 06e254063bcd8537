#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

namespace cairn {

/// Where what was found out once about this machine is kept: $CAIRN_CACHE, else $XDG_CACHE_HOME/cairn, else
/// ~/.cache/cairn. Empty, for nowhere, with CAIRN_CACHE=off and without a home.
inline std::filesystem::path user_cache_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (const std::string own = variable("CAIRN_CACHE"); !own.empty())
    return own == "off" ? std::filesystem::path() : std::filesystem::path(own);
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return std::filesystem::path(cache) / "cairn";
  if (const std::string home = variable("HOME"); !home.empty())
    return std::filesystem::path(home) / ".cache" / "cairn";
  return {};
}

}  // namespace cairn
