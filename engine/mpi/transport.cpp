// libcairn_mpi.so: messages by MPI. All calls come from one thread, so MPI_THREAD_FUNNELED will do, if that
// thread is the one that called MPI_Init_thread.
#include <mpi.h>

#include <cstdio>
#include <unordered_map>
#include <utility>

#include "engine/distributed/transport.h"
#include "kernels/error.h"

namespace cairn::distributed {
namespace {

void check(int result, const char* what) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(result, text, &length);
  throw Error(std::string("MPI: ") + what + " failed: " + text);
}

std::string version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string line(text);
  return line.substr(0, line.find_first_of(",\n"));
}

class MpiTransport final : public Transport {
 public:
  MpiTransport() {
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_FUNNELED)
      throw Error("MPI: " + version() + " does not serve programs with threads");
    check(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &world_), "MPI_Comm_size");
  }
  int rank() const override { return rank_; }
  int world() const override { return world_; }
  std::string library() const override { return version(); }

  Request send(int peer, int tag, const void* data, std::size_t bytes) override {
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, comm_, &request), "MPI_Isend");
    return keep(request);
  }
  Request receive(int peer, int tag, void* data, std::size_t bytes) override {
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer, tag, comm_, &request), "MPI_Irecv");
    return keep(request);
  }
  bool done(Request request) override {
    const auto found = requests_.find(request);
    int flag = 0;
    check(MPI_Test(&found->second, &flag, MPI_STATUS_IGNORE), "MPI_Test");
    if (flag) requests_.erase(found);
    return flag != 0;
  }
  bool probe(int tag, int& peer, std::size_t& bytes) override {
    int flag = 0, count = 0;
    MPI_Status status;
    check(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm_, &flag, &status), "MPI_Iprobe");
    if (!flag) return false;
    check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    peer = status.MPI_SOURCE;
    bytes = static_cast<std::size_t>(count);
    return true;
  }
  void close() override { check(MPI_Finalize(), "MPI_Finalize"); }

 private:
  Request keep(MPI_Request request) {
    requests_.emplace(++last_, request);
    return last_;
  }
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, world_ = 1;
  std::unordered_map<Request, MPI_Request> requests_;
  Request last_ = 0;
};

}  // namespace
}  // namespace cairn::distributed

extern "C" {

cairn::distributed::Transport* cairn_open_mpi(char* text, std::size_t size) {
  try {
    return new cairn::distributed::MpiTransport();
  } catch (const std::exception& error) {
    std::snprintf(text, size, "%s", error.what());
    return nullptr;
  }
}

void cairn_mpi_version(char* text, std::size_t size) {
  std::snprintf(text, size, "%s", cairn::distributed::version().c_str());
}
}
