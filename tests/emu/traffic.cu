// Kernels whose memory traffic can be worked out on paper; counters_checked_test.cpp does.
#include "tests/emu/traffic.h"

#include "kernels/cuda/device/grid.h"
#include "kernels/cuda/device/reduce.h"
#include "kernels/cuda/launch.h"

namespace cairn::kernels {
namespace {

__global__ void copy(const float* in, float* out, int n) {
  const int64_t i = grid_start();
  if (i < n) out[i] = in[i];
}
__global__ void copy_vectors(const float* in, float* out, int n) {
  const int64_t i = grid_start() * 4;
  if (i < n) store_128(out + i, load_128(in + i));
}
__global__ void copy_halves(const float* in, float* out, int n) {
  const auto* x = reinterpret_cast<const __nv_bfloat16*>(in);
  auto* y = reinterpret_cast<__nv_bfloat16*>(out);
  const int64_t i = grid_start();
  if (i < n) y[i] = x[i];
}
template <int kStride>
__global__ void copy_strided(const float* in, float* out, int n) {
  const int64_t i = grid_start() * kStride;
  if (i < n) out[i] = in[i];
}
__global__ void copy_shifted(const float* in, float* out, int n) {  // starts 4 bytes off a sector
  const int64_t i = grid_start() + 1;
  if (i < n) out[i] = in[i];
}
__global__ void broadcast(const float* in, float* out, int n) {
  const int64_t i = grid_start();
  if (i < n) out[i] = in[0];
}
/// [n,n] with n a multiple of 32, blocks of 32x32; kPad columns more in shared memory.
template <int kPad>
__global__ void transpose(const float* in, float* out, int n) {
  __shared__ float tile[32][32 + kPad];
  const unsigned x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  const auto width = static_cast<unsigned>(n);
  tile[threadIdx.y][threadIdx.x] = in[y * width + x];
  __syncthreads();
  const unsigned tx = blockIdx.y * 32 + threadIdx.x, ty = blockIdx.x * 32 + threadIdx.y;
  out[ty * width + tx] = tile[threadIdx.x][threadIdx.y];
}
__global__ void transpose_naive(const float* in, float* out, int n) {
  const unsigned x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  const auto width = static_cast<unsigned>(n);
  out[x * width + y] = in[y * width + x];
}
__global__ void sum_blocks(const float* in, float* out, int n) {
  __shared__ float scratch[32];
  float v = 0;
  for (int64_t i = grid_start(); i < n; i += grid_stride()) v += in[i];
  v = block_reduce<Sum>(v, 0.0f, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = v;
}
__global__ void histogram(const float* in, float* out, int n) {  // 4 bins
  const int64_t i = grid_start();
  if (i < n) atomicAdd(out + static_cast<int>(in[i]) % 4, 1.0f);
}
__global__ void odd_lanes_only(const float* in, float* out, int n) {
  const int64_t i = grid_start();
  if (i < n && i % 2 == 1) out[i] = in[i];
}
__global__ void shared_vectors(const float* in, float* out, int n) {  // 16 bytes a lane through shared memory
  __shared__ __align__(16) float s[32 * 4];
  const int64_t i = grid_start() * 4;
  if (i >= n) return;
  store_128(s + threadIdx.x * 4, load_128(in + i));
  __syncwarp();
  store_128(out + i, load_128(s + threadIdx.x * 4));
}

struct Entry {
  const char* name;
  void (*kernel)(const float*, float*, int);
};
constexpr Entry kEntries[] = {
    {"copy", copy},
    {"copy_vectors", copy_vectors},
    {"copy_halves", copy_halves},
    {"copy_strided<2>", copy_strided<2>},
    {"copy_strided<8>", copy_strided<8>},
    {"copy_strided<32>", copy_strided<32>},
    {"copy_shifted", copy_shifted},
    {"broadcast", broadcast},
    {"transpose<0>", transpose<0>},
    {"transpose<1>", transpose<1>},
    {"transpose_naive", transpose_naive},
    {"sum_blocks", sum_blocks},
    {"histogram", histogram},
    {"odd_lanes_only", odd_lanes_only},
    {"shared_vectors", shared_vectors},
};

}  // namespace

Status run_traffic(const std::string& name, dim3 grid, dim3 block, const float* in, float* out, int n) {
  for (const Entry& e : kEntries)
    if (name == e.name) return launch(e.kernel, grid, block, 0, nullptr, in, out, n);
  return Status::error("no kernel " + name);
}

}  // namespace cairn::kernels
