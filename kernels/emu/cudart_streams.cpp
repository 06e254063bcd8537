// The CUDA runtime on the emulated device: streams and events.
#include "kernels/emu/stream_queue.h"

using namespace cairn::emu;

extern "C" {

// ---- streams ----
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned int flags, int /*priority*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out || flags > cudaStreamNonBlocking) return fail(cudaErrorInvalidValue);
  auto* s = new CUstream_st;
  s->number = r.stream_numbers++;
  s->device = current_device();
  s->blocking = flags != cudaStreamNonBlocking;
  r.streams.insert(s);
  *out = s;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned int flags) {
  return cudaStreamCreateWithPriority(out, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* out) {
  return cudaStreamCreateWithPriority(out, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.streams.erase(stream)) return fail(cudaErrorInvalidResourceHandle);
  r.destroyed[stream->device][stream->number] = stream->ticks;
  delete stream;  // its queued work still runs
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) return refuse_in_capture(*s);
  ++r.counts.synchronizations;
  if (s == &r.legacy) {
    std::vector<OpPtr> others;  // a wait may let other threads make and destroy streams
    for (const CUstream_st* other : r.streams)
      if (other->blocking) others.push_back(other->last);
    for (const OpPtr& last : others) wait_for(r, last);
  }
  wait_for(r, OpPtr(s->last));
  return device_error();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s) return fail(cudaErrorInvalidResourceHandle);
  return !s->last || s->last->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int /*flags*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->graph) {
    // Waiting for an event of a capture draws this stream into it.
    if (!s->capture) {
      for (CUstream_st* other : r.streams)
        if (other->capture && other->capture.get() == event->graph) s->capture = other->capture;
      if (!s->capture) return fail(cudaErrorStreamCaptureInvalidated);
      s->capture_tail.clear();
    } else if (s->capture.get() != event->graph) {
      return fail(cudaErrorStreamCaptureMerge);
    }
    for (const std::size_t node : event->nodes)
      if (std::find(s->capture_tail.begin(), s->capture_tail.end(), node) == s->capture_tail.end())
        s->capture_tail.push_back(node);
    return cudaSuccess;
  }
  if (s->capture) return fail(cudaErrorStreamCaptureIsolation);
  if (event->recorded) s->pending_waits.push_back(event->recorded);
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  const Lock lock(runtime().mutex);
  return submit(stream, "host function", [=] { function(data); });
}

// ---- events ----
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned int /*flags*/) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!out) return fail(cudaErrorInvalidValue);
  *out = new CUevent_st;
  (*out)->device = current_device();
  r.events.insert(*out);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* out) { return cudaEventCreateWithFlags(out, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.events.erase(event)) return fail(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  CUstream_st* s = resolve(r, stream);
  if (!s || !r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (s != &r.legacy && s->device != event->device) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    event->graph = s->capture.get();
    event->nodes = s->capture_tail;
    return cudaSuccess;
  }
  event->graph = nullptr;
  event->recorded = enqueue(r, *s, "", {});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->graph) return fail(cudaErrorCapturedEvent);
  ++r.counts.synchronizations;
  wait_for(r, OpPtr(event->recorded));
  return device_error();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (!r.events.contains(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->graph) return fail(cudaErrorCapturedEvent);
  return !event->recorded || event->recorded->done ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;  // an emulated device claims nothing about time
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Runtime& r = runtime();
  const Lock lock(r.mutex);
  if (any_capture(r)) return fail(cudaErrorStreamCaptureUnsupported);
  ++r.counts.synchronizations;
  wait_for_device(r, current_device());
  return device_error();
}

}  // extern "C"
