#pragma once
#include <dirent.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/apps/program.h"

namespace cairn::app {

#if defined(__SANITIZE_ADDRESS__)
// Open MPI's plug-ins leak when it ends, and are unloaded by then: no suppression can name them. That cairn's
// own part does not is seen where ranks are threads.
inline const std::string kSanitizer = "-x ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=0 ";
#else
inline const std::string kSanitizer;
#endif

/// mpirun as tests want it: as root too, more processes than cores, none tied to a core, shared memory
/// without the kernel's help, which containers forbid.
inline std::string mpirun(int processes, const std::string& more = "") {
  return "mpirun --allow-run-as-root --oversubscribe --bind-to none --mca btl_vader_single_copy_mechanism "
         "none "
         "-n " +
         std::to_string(processes) + " " + kSanitizer + more;
}
/// The arguments of a short run with one thread a process, so that a run by one process rounds alike.
inline std::string with_one_thread(std::string arguments) {
  const std::string two = "--threads 2 --workers 2";
  return arguments.replace(arguments.find(two), two.size(), "--threads 1 --workers 1");
}
inline bool mpirun_is_there() { return std::system("mpirun --version >/dev/null 2>&1") == 0; }

/// The process of this rank below `ancestor` (mpirun, or what it runs); -1: there is none yet.
inline pid_t rank_below(pid_t ancestor, int rank) {
  const auto text_of = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  };
  const auto parent = [&](pid_t pid) {
    const std::string stat = text_of("/proc/" + std::to_string(pid) + "/stat");
    const std::size_t name_end = stat.rfind(')');
    return name_end == std::string::npos ? 0 : std::atoi(stat.c_str() + name_end + 4);
  };
  const std::string wanted = std::string("\0OMPI_COMM_WORLD_RANK=", 22) + std::to_string(rank) + '\0';
  std::vector<pid_t> pids;
  DIR* proc = opendir("/proc");
  while (const dirent* entry = proc ? readdir(proc) : nullptr)
    if (const int pid = std::atoi(entry->d_name); pid > 0) pids.push_back(pid);
  if (proc) closedir(proc);
  for (const pid_t pid : pids) {
    if (text_of("/proc/" + std::to_string(pid) + "/environ").find(wanted) == std::string::npos) continue;
    for (pid_t p = pid; p > 1; p = parent(p))
      if (p == ancestor) return pid;
  }
  return -1;
}

}  // namespace cairn::app
