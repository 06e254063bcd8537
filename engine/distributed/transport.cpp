#include "engine/distributed/transport.h"

#include <dlfcn.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "engine/shared_object.h"
#include "kernels/error.h"

namespace cairn::distributed {
namespace {

constexpr std::size_t kTextBytes = 1024;

int number_of(const char* name) {
  const char* text = std::getenv(name);
  int value = -1;
  if (text) std::from_chars(text, text + std::string_view(text).size(), value);
  return value;
}

struct Variables {
  const char* rank;
  const char* world;
};
// Open MPI's mpirun; MPICH's and Intel's, and srun --mpi=pmi2; srun --mpi=pmix. A batch job's own
// SLURM_NTASKS says nothing of how this process was started.
constexpr std::array<Variables, 3> kLaunchers = {{{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                                  {"PMI_RANK", "PMI_SIZE"},
                                                  {"PMIX_RANK", "SLURM_NTASKS"}}};

const SharedObject& provider() {
  static const SharedObject& once = *new SharedObject(open_shared_object("mpi", /*global=*/true));
  return once;
}

}  // namespace

Launch launch_of_environment() {
  for (const Variables& v : kLaunchers) {
    const int rank = number_of(v.rank), world = number_of(v.world);
    if (rank >= 0 && world > rank) return {rank, world};
  }
  return {};
}

bool mpi_available(std::string& found) {
  const SharedObject& library = provider();
  if (!library.exists) found = "built without MPI";
  if (library.exists && !library.handle) found = "MPI cannot be loaded: " + library.error;
  if (!library.handle) return false;
  const auto version = reinterpret_cast<CairnMpiVersion*>(dlsym(library.handle, "cairn_mpi_version"));
  std::array<char, kTextBytes> text{};
  if (version) version(text.data(), text.size());
  found = version ? text.data() : "libcairn_mpi.so is of another version: build cairn again";
  return version != nullptr;
}

std::unique_ptr<Transport> open_mpi() {
  std::string found;
  if (!mpi_available(found))
    throw Error("this process is one of several, and there is no MPI: " + found + "; " + kMpiCure);
  const auto open = reinterpret_cast<CairnOpenMpi*>(dlsym(provider().handle, "cairn_open_mpi"));
  std::array<char, kTextBytes> text{};
  std::unique_ptr<Transport> transport(open ? open(text.data(), text.size()) : nullptr);
  if (!transport) throw Error("MPI does not start: " + std::string(text.data()));
  return transport;
}

}  // namespace cairn::distributed
