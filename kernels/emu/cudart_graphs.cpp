// The CUDA runtime on the emulated device: captured graphs.
#include "kernels/emu/stream_queue.h"

using namespace cairn::emu;

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
  // The nodes run as one operation of the stream, in any order that their dependencies allow; towards each
  // other they are ordered by the graph alone.
  return submit(stream, "graph", [nodes = exec->nodes, &r] {
    const Clock before = r.current->clock;
    const auto [stream_number, tick] = r.operations[r.current->id];
    std::vector<std::set<std::size_t>> ancestors(nodes.size());
    std::vector<std::uint32_t> ids(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      ids[i] = new_operation(r, stream_number, tick);
      for (const std::size_t a : nodes[i].after) {
        ancestors[i].insert(a);
        ancestors[i].insert(ancestors[a].begin(), ancestors[a].end());
      }
    }
    cairn::emu::end_operation();
    std::vector<bool> done(nodes.size(), false);
    for (std::size_t left = nodes.size(); left > 0; --left) {
      std::vector<std::size_t> ready;
      for (std::size_t i = 0; i < nodes.size(); ++i)
        if (!done[i] &&
            std::all_of(nodes[i].after.begin(), nodes[i].after.end(), [&](std::size_t a) { return done[a]; }))
          ready.push_back(i);
      const std::size_t pick = ready[r.schedule == Schedule::random ? r.random() % ready.size() : 0];
      cairn::emu::begin_operation(ids[pick], nodes[pick].name.c_str(), [&](std::uint32_t e) {
        for (std::size_t i = 0; i < ids.size(); ++i)
          if (ids[i] == e) return ancestors[pick].contains(i);
        return covers(r, before, e);
      });
      nodes[pick].run();
      cairn::emu::end_operation();
      if (r.recording) r.executed.push_back(nodes[pick].name);
      done[pick] = true;
    }
  });
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
