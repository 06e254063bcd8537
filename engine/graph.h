#pragma once
#include <functional>

#include "engine/device.h"

namespace cairn {

/// Work captured once on a device's compute queue (a CUDA graph), to be launched again and again with one
/// call. A replay reads and writes the memory that the capture saw: what changes between replays is copied
/// into tensors made before; results are read from tensors that `work` left behind. Memory taken during the
/// capture is the graph's alone until it is destroyed. On the host nothing happens in a replay: no gradient
/// arrives, no version is counted.
class Graph {
 public:
  /// True if the device has graphs.
  static bool supported(Device device);
  /// Captures what `work` queues, without running it. `work` must neither wait for the device nor copy from
  /// the host, and ought to have run before, so that plans are chosen and memory is at hand. Throws what
  /// `work` throws, and Error where something in it cannot be captured; the queue is then as before.
  Graph(Device device, const std::function<void()>& work);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay() const;

 private:
  Device device_;
  int pool_ = 0;
  void* graph_ = nullptr;
};

}  // namespace cairn
