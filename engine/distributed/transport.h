#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace cairn::distributed {

/// Messages between the processes of a job, numbered 0 ... world - 1. One thread uses it: the one that opened
/// it. Messages of one pair and tag arrive in the order in which they were sent. Every call throws Error
/// where the library fails.
class Transport {
 public:
  using Request = std::uint64_t;
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  virtual int rank() const = 0;
  virtual int world() const = 0;
  /// For people: "Open MPI 4.1.4".
  virtual std::string library() const = 0;

  /// Both return at once; the memory must stay until done() has answered true, after which the request is
  /// gone. `tag` lies in 0 ... 32767. `bytes` is that of the other side, at most kMostBytes.
  virtual Request send(int peer, int tag, const void* data, std::size_t bytes) = 0;
  virtual Request receive(int peer, int tag, void* data, std::size_t bytes) = 0;
  virtual bool done(Request request) = 0;
  /// Whether a message of this tag has come from anyone; from whom, and how long it is.
  virtual bool probe(int tag, int& peer, std::size_t& bytes) = 0;
  /// Ends the job's connection in good order: every process calls it. Without it the launcher takes the end
  /// of the process for a failure.
  virtual void close() = 0;

  static constexpr std::size_t kMostBytes = std::size_t{1} << 30;

 protected:
  Transport() = default;
};

/// How this process was started, by what a launcher (mpirun, srun) leaves in the environment. world = 1 where
/// there was none.
struct Launch {
  int rank = 0;
  int world = 1;
};
Launch launch_of_environment();

/// Opens MPI by libcairn_mpi.so, which lies beside libcairn.so where MPI was found when cairn was built.
/// Throws Error with the cure where it is missing or MPI does not start.
std::unique_ptr<Transport> open_mpi();
/// Whether libcairn_mpi.so is there and can be loaded; `found` is MPI's name and version or what is wrong.
bool mpi_available(std::string& found);
inline constexpr const char* kMpiCure =
    "install it (Debian: apt-get install libopenmpi-dev openmpi-bin) and build again: scripts/build";

}  // namespace cairn::distributed

extern "C" {
/// What libcairn_mpi.so exports. `text` receives one line, cut to `size` bytes: why null is returned.
using CairnOpenMpi = cairn::distributed::Transport*(char* text, std::size_t size);
CairnOpenMpi cairn_open_mpi;
/// The library's name and version.
using CairnMpiVersion = void(char* text, std::size_t size);
CairnMpiVersion cairn_mpi_version;
}
