// Mistakes that host code is known for, each beside what was meant.
#include "tests/emu/host_defects.h"

#include <vector>

#include "kernels/cuda/launch.h"

namespace cairn::kernels {
namespace {

constexpr int kN = 64;
constexpr std::size_t kBytes = kN * sizeof(float);

__global__ void fill(float* a) { a[threadIdx.x] = static_cast<float>(threadIdx.x); }
__global__ void reads_freed(const float* a, float* b) {
  b[threadIdx.x] = a[threadIdx.x];  // DEFECT freed_before_the_launch
}
__global__ void reads_freed_elsewhere(const float* a, float* b) {
  b[threadIdx.x] = a[threadIdx.x];  // DEFECT freed_on_another_stream
}
__global__ void reads_too_early(const float* a, float* b) {
  b[threadIdx.x] = a[threadIdx.x];  // DEFECT missing_event_wait
}
__global__ void overtakes_the_copy(const float* a, float* b) {
  b[threadIdx.x] = a[threadIdx.x];  // DEFECT copy_overtaken
}
__global__ void still_writing(float* a) {
  a[threadIdx.x] = 1.0f;  // DEFECT result_copied_early
}
__global__ void adds_to_cleared(float* a) {
  atomicAdd(a, 1.0f);  // DEFECT cleared_late
}
__global__ void of_the_host(const float* a, float* b) {
  b[threadIdx.x] = a[threadIdx.x];  // DEFECT host_memory_passed
}
__global__ void of_another_size(const float* a, float* b) {
  b[threadIdx.x] = a[threadIdx.x];  // DEFECT wrong_size_allocated
}
__global__ void wants_shared(float* a) {
  CAIRN_DYNAMIC_SHARED(float, s);
  s[threadIdx.x] = 1.0f;
  a[threadIdx.x] = s[threadIdx.x];
}

/// Two streams, an event, device and pinned memory, given back at the end.
struct Setup {
  Setup() {
    for (float** p : {&a, &b}) (void)cudaMalloc(reinterpret_cast<void**>(p), kBytes);
    (void)cudaMemset(a, 0, kBytes);
    (void)cudaMemset(b, 0, kBytes);
    (void)cudaHostAlloc(reinterpret_cast<void**>(&pinned), kBytes, cudaHostAllocPortable);
    for (int i = 0; i < kN; ++i) pinned[i] = 0;
    for (cudaStream_t* s : {&one, &two}) (void)cudaStreamCreateWithFlags(s, cudaStreamNonBlocking);
    (void)cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    (void)cudaDeviceSynchronize();
  }
  ~Setup() {
    (void)cudaDeviceSynchronize();
    for (float* p : {a, b})
      if (p) (void)cudaFree(p);
    (void)cudaFreeHost(pinned);
    for (cudaStream_t s : {one, two}) (void)cudaStreamDestroy(s);
    (void)cudaEventDestroy(event);
  }
  Setup(const Setup&) = delete;
  Setup& operator=(const Setup&) = delete;
  /// What is queued on `two` from now on follows what is queued on `one`, unless that is what is left out.
  void order(bool wrong) const {
    if (wrong) return;
    (void)cudaEventRecord(event, one);
    (void)cudaStreamWaitEvent(two, event, 0);
  }
  float *a = nullptr, *b = nullptr, *pinned = nullptr;
  cudaStream_t one = nullptr, two = nullptr;
  cudaEvent_t event = nullptr;
};

Status freed_before_the_launch(bool wrong) {
  Setup s;
  float* const a = s.a;
  if (wrong) {
    (void)cudaFree(s.a);
    s.a = nullptr;
  }
  return launch(reads_freed, dim3(1), dim3(kN), 0, s.one, a, s.b);
}
Status freed_on_another_stream(bool wrong) {
  Setup s;
  float* a = nullptr;
  (void)cudaMallocAsync(reinterpret_cast<void**>(&a), kBytes, s.one);
  Status status = launch(fill, dim3(1), dim3(kN), 0, s.one, a);
  if (status.ok()) status = launch(reads_freed_elsewhere, dim3(1), dim3(kN), 0, s.one, a, s.b);
  s.order(wrong);
  (void)cudaFreeAsync(a, s.two);
  return status;
}
Status missing_event_wait(bool wrong) {
  const Setup s;
  Status status = launch(fill, dim3(1), dim3(kN), 0, s.one, s.a);
  s.order(wrong);
  if (status.ok()) status = launch(reads_too_early, dim3(1), dim3(kN), 0, s.two, s.a, s.b);
  return status;
}
Status copy_overtaken(bool wrong) {
  const Setup s;
  (void)cudaMemcpyAsync(s.a, s.pinned, kBytes, cudaMemcpyHostToDevice, s.one);
  s.order(wrong);
  return launch(overtakes_the_copy, dim3(1), dim3(kN), 0, s.two, s.a, s.b);
}
Status result_copied_early(bool wrong) {
  const Setup s;
  Status status = launch(still_writing, dim3(1), dim3(kN), 0, s.one, s.a);
  s.order(wrong);
  (void)cudaMemcpyAsync(s.pinned, s.a, kBytes, cudaMemcpyDeviceToHost, s.two);
  return status;
}
Status cleared_late(bool wrong) {
  const Setup s;
  (void)cudaMemsetAsync(s.a, 0, kBytes, s.one);
  s.order(wrong);
  return launch(adds_to_cleared, dim3(1), dim3(kN), 0, s.two, s.a);
}
Status host_memory_passed(bool wrong) {
  const Setup s;
  static const std::vector<float> on_the_host(kN, 1.0f);
  return launch(of_the_host, dim3(1), dim3(kN), 0, s.one, wrong ? on_the_host.data() : s.a, s.b);
}
Status wrong_size_allocated(bool wrong) {
  const Setup s;
  float* small = nullptr;
  (void)cudaMalloc(reinterpret_cast<void**>(&small), wrong ? kN : kBytes);  // elements for bytes
  Status status = launch(of_another_size, dim3(1), dim3(kN), 0, s.one, s.a, small);
  (void)cudaDeviceSynchronize();
  (void)cudaFree(small);
  return status;
}
Status too_much_shared(bool wrong) {
  const Setup s;
  return launch(wants_shared, dim3(1), dim3(kN), wrong ? 300 * 1024 : kBytes, s.one, s.a);
}
Status too_many_threads(bool wrong) {
  const Setup s;
  return launch(fill, dim3(1), dim3(wrong ? 1056 : kN), 0, s.one, s.a);
}
Status empty_grid(bool wrong) {
  const Setup s;
  return launch(fill, dim3(wrong ? 0 : 1), dim3(kN), 0, s.one, s.a);
}

constexpr HostMistake kMistakes[] = {
    {"freed_before_the_launch", "reads_freed", &freed_before_the_launch},
    {"freed_on_another_stream", "reads_freed_elsewhere", &freed_on_another_stream},
    {"missing_event_wait", "reads_too_early", &missing_event_wait},
    {"copy_overtaken", "overtakes_the_copy", &copy_overtaken},
    {"result_copied_early", "still_writing", &result_copied_early},
    {"cleared_late", "adds_to_cleared", &cleared_late},
    {"host_memory_passed", "of_the_host", &host_memory_passed},
    {"wrong_size_allocated", "of_another_size", &wrong_size_allocated},
    {"too_much_shared", "wants_shared", &too_much_shared},
    {"too_many_threads", "fill", &too_many_threads},
    {"empty_grid", "fill", &empty_grid},
};

}  // namespace

std::span<const HostMistake> host_mistakes() { return kMistakes; }

}  // namespace cairn::kernels
