#include "engine/graph.h"

#include "engine/allocator.h"
#include "kernels/device.h"

namespace cairn {
namespace {

const kernels::DeviceApi& api(Device device) { return *kernels::device_api(device.type); }

}  // namespace

bool Graph::supported(Device device) {
  compute_queue(device);  // loads the backend
  return api(device).begin_capture != nullptr;
}

Graph::Graph(Device device, const std::function<void()>& work) : device_(device) {
  if (!supported(device))
    throw Error("device '" + to_string(device) + "' has no graphs: queue the work itself");
  const kernels::Queue& queue = compute_queue(device);
  pool_ = allocator(device).begin_pool();
  const auto give_up = [&] {
    allocator(device).end_pool();
    allocator(device).release_pool(pool_);
  };
  try {
    check(api(device).begin_capture(queue));
    try {
      work();
    } catch (...) {
      static_cast<void>(api(device).end_capture(queue, graph_).ok());  // the first failure is the one to tell
      if (graph_) static_cast<void>(api(device).destroy_graph(graph_).ok());
      throw;
    }
    check(api(device).end_capture(queue, graph_));
  } catch (...) {
    give_up();
    throw;
  }
  allocator(device).end_pool();
}

Graph::~Graph() {
  // The driver keeps a graph that is still running; its memory is handed on behind it in the same queue.
  static_cast<void>(api(device_).destroy_graph(graph_).ok());
  allocator(device_).release_pool(pool_);
}

void Graph::replay() const { check(api(device_).launch_graph(compute_queue(device_), graph_)); }

}  // namespace cairn
