#include "kernels/cpu/waiting.h"

#include <unistd.h>

#include <cstdlib>

namespace cairn::kernels {

void adopt_short_waits(char** argv) {
  constexpr char kVariable[] = "GOMP_SPINCOUNT";
  if (std::getenv(kVariable) || std::getenv("OMP_WAIT_POLICY")) return;
  if (setenv(kVariable, kSpinCount, 0) != 0) return;
  execv("/proc/self/exe", argv);
  unsetenv(kVariable);
}

}  // namespace cairn::kernels
