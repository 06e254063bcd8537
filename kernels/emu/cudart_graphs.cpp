// The CUDA runtime on the emulated device: captured graphs.
#include "kernels/emu/stream_queue.h"

using namespace cairn::emu;

namespace {

/// One launch of a graph: an operation of its stream that has a turn for each node. They run in any order
/// that their dependencies allow; towards each other they are ordered by the graph alone.
class GraphRun {
 public:
  explicit GraphRun(std::vector<GraphNode> nodes)
      : nodes_(std::move(nodes)), done_(nodes_.size(), false), ancestors_(nodes_.size()) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      for (const std::size_t a : nodes_[i].after) {
        ancestors_[i].insert(a);
        ancestors_[i].insert(ancestors_[a].begin(), ancestors_[a].end());
      }
    }
  }
  bool may_run() const { return nodes_.empty() || !ready().empty(); }
  void run_one(Runtime& r) {
    if (nodes_.empty()) return;
    const Clock& before = r.current->clock;
    if (ids_.empty()) {
      const auto [stream, tick] = r.operations[r.current->id];
      for (std::size_t i = 0; i < nodes_.size(); ++i) ids_.push_back(new_operation(r, stream, tick));
    }
    const std::vector<std::size_t> may = ready();
    const std::size_t pick = may[r.schedule == Schedule::random ? r.random() % may.size() : 0];
    end_operation();  // the launch itself
    begin_operation(ids_[pick], nodes_[pick].name.c_str(), [&](std::uint32_t e) {
      for (std::size_t i = 0; i < ids_.size(); ++i)
        if (ids_[i] == e) return ancestors_[pick].contains(i);
      return covers(r, before, e);
    });
    nodes_[pick].run();
    end_operation();
    if (r.recording) r.executed.push_back(nodes_[pick].name);
    done_[pick] = true;
    r.current->again = std::find(done_.begin(), done_.end(), false) != done_.end();
  }

 private:
  std::vector<std::size_t> ready() const {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      const GraphNode& node = nodes_[i];
      if (!done_[i] &&
          std::all_of(node.after.begin(), node.after.end(), [&](std::size_t a) { return done_[a]; }) &&
          (!node.may_run || node.may_run()))
        ready.push_back(i);
    }
    return ready;
  }

  std::vector<GraphNode> nodes_;
  std::vector<bool> done_;
  std::vector<std::set<std::size_t>> ancestors_;  // by node
  std::vector<std::uint32_t> ids_;                // of the nodes as operations
};

}  // namespace

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s == &r.legacy) return fail(cudaErrorStreamCaptureUnsupported);
  if (s->capture) return fail(cudaErrorIllegalState);
  s->capture = std::make_shared<CUgraph_st>();
  s->capture_origin = true;
  s->capture_mode = mode;
  s->capture_tail.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* out) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !out) return fail(cudaErrorInvalidValue);
  *out = nullptr;
  if (!s->capture) return fail(cudaErrorIllegalState);
  if (!s->capture_origin) return fail(cudaErrorStreamCaptureUnmatched);
  const std::shared_ptr<CUgraph_st> graph = s->capture;
  // Every node must be an ancestor of the origin's tail: a forked stream has to be joined again.
  std::vector<bool> joined(graph->nodes.size(), false);
  std::vector<std::size_t> stack = s->capture_tail;
  while (!stack.empty()) {
    const std::size_t node = stack.back();
    stack.pop_back();
    if (joined[node]) continue;
    joined[node] = true;
    stack.insert(stack.end(), graph->nodes[node].after.begin(), graph->nodes[node].after.end());
  }
  for (CUstream_st* other : r.streams) {
    if (other->capture != graph) continue;
    other->capture = nullptr;
    other->capture_origin = false;
    other->capture_tail.clear();
  }
  for (CUevent_st* event : r.events)
    if (event->graph == graph.get()) event->graph = nullptr;
  if (graph->invalidated) return fail(cudaErrorStreamCaptureInvalidated);
  if (std::find(joined.begin(), joined.end(), false) != joined.end())
    return fail(cudaErrorStreamCaptureUnjoined);
  *out = new CUgraph_st(*graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !status) return fail(cudaErrorInvalidValue);
  *status = !s->capture               ? cudaStreamCaptureStatusNone
            : s->capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long /*flags*/) {
  if (!out || !graph) return fail(cudaErrorInvalidValue);
  *out = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!exec) return fail(cudaErrorInvalidValue);
  ++r.counts.graph_launches;
  const auto launch = std::make_shared<GraphRun>(exec->nodes);
  return submit(
      stream, "graph", [launch, &r] { launch->run_one(r); }, [launch] { return launch->may_run(); });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (!graph || !count || nodes) return fail(cudaErrorInvalidValue);  // only the number is offered
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

}  // extern "C"
