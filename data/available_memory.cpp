#include "data/available_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string_view>

namespace cairn::data {
namespace {

constexpr std::int64_t kUnknown = std::numeric_limits<std::int64_t>::max();

// A number standing alone in a file; -1 where there is none ("max").
std::int64_t read_number(const std::string& path) {
  std::ifstream file(path);
  std::int64_t value = -1;
  return file >> value ? value : -1;
}

// The number behind a key at the beginning of a line; 0 where there is none.
std::int64_t read_key(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string name, rest;
  for (std::int64_t value = 0; file >> name >> value; std::getline(file, rest))
    if (name == key) return value;
  return 0;
}

// What the names of a control group's files are in either version.
struct Names {
  const char* limit;
  const char* used;
  const char* droppable;
};
constexpr Names kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Names kVersion2{"memory.max", "memory.current", "inactive_file"};

std::int64_t left_in(const std::string& folder, const Names& names) {
  const std::int64_t limit = read_number(folder + "/" + names.limit);
  const std::int64_t used = read_number(folder + "/" + names.used);
  if (limit < 0 || used < 0) return kUnknown;
  const std::int64_t droppable = read_key(folder + "/memory.stat", names.droppable);
  return std::max<std::int64_t>(0, limit - used + std::min(droppable, used));
}

// The group and all above it: each may have a limit of its own. In a container the path may name what lies
// outside; the top of what is mounted is then the container's.
std::int64_t left_along(const std::string& mounted, std::string path, const Names& names) {
  std::int64_t left = left_in(mounted, names);
  while (path.size() > 1) {
    left = std::min(left, left_in(mounted + path, names));
    path.resize(path.rfind('/'));
  }
  return left;
}

std::int64_t left_in_control_groups(const std::string& root) {
  const std::string mounted = root + "/sys/fs/cgroup";
  std::int64_t left = kUnknown;
  std::ifstream groups(root + "/proc/self/cgroup");  // "0::/path", "7:cpu,memory:/path"
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos || second + 1 >= line.size() ||
        line[second + 1] != '/')
      continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") left = std::min(left, left_along(mounted, path, kVersion2));
    if (controllers.find(",memory,") != std::string::npos)
      left = std::min(left, left_along(mounted + "/memory", path, kVersion1));
  }
  return left;
}

std::int64_t left_in_address_space(const std::string& root) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnknown;
  const std::int64_t pages = std::max<std::int64_t>(0, read_number(root + "/proc/self/statm"));
  return std::max<std::int64_t>(0, static_cast<std::int64_t>(limit.rlim_cur) - pages * sysconf(_SC_PAGESIZE));
}

}  // namespace

std::int64_t available_memory(const std::string& root) {
  const std::string info = root + "/proc/meminfo";
  const std::int64_t free = read_key(info, "MemAvailable:");
  std::int64_t available = kUnknown;
  if (free > 0) available = (free + read_key(info, "SwapFree:")) * 1024;
  return std::min({available, left_in_control_groups(root), left_in_address_space(root)});
}

}  // namespace cairn::data
