// Mistakes that kernels are known for, each beside what was meant.
#include "kernels/cuda/launch.h"
#include "tests/emu/defects.h"

namespace cairn::kernels {
namespace {

constexpr unsigned kFull = 0xffffffffu;

__device__ int index() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// ---- races in shared memory ----

template <bool kWrong>
__global__ void missing_barrier(float* a, float* b, int) {
  __shared__ float s[64];
  s[threadIdx.x] = a[threadIdx.x];
  if (!kWrong) __syncthreads();
  b[threadIdx.x] = s[63 - threadIdx.x];  // DEFECT missing_barrier
}
template <bool kWrong>
__global__ void missing_barrier_between_turns(float* a, float* b, int) {
  __shared__ float s[64];
  float sum = 0;
  for (int turn = 0; turn < 3; ++turn) {
    s[threadIdx.x] = a[threadIdx.x] + static_cast<float>(turn);  // DEFECT missing_barrier_between_turns
    __syncthreads();
    sum += s[63 - threadIdx.x];
    if (!kWrong) __syncthreads();
  }
  b[threadIdx.x] = sum;
}
template <bool kWrong>
__global__ void scratch_used_again(float* a, float* b, int) {
  __shared__ float s[2];
  const float v = a[threadIdx.x];
  if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = v;
  __syncthreads();
  const float first = s[0] + s[1];
  if (!kWrong) __syncthreads();
  if (threadIdx.x % 32 == 1) s[threadIdx.x / 32] = v;  // DEFECT scratch_used_again
  __syncthreads();
  b[threadIdx.x] = first * (s[0] + s[1]);
}
template <bool kWrong>
__global__ void lockstep_trusted(float* a, float* b, int) {
  __shared__ float s[32];
  s[threadIdx.x] = a[threadIdx.x];
  for (unsigned half = 16; half > 0; half /= 2) {
    if (!kWrong) __syncwarp();
    const float other = threadIdx.x < half ? s[threadIdx.x + half] : 0.0f;  // DEFECT lockstep_trusted
    if (!kWrong) __syncwarp();
    s[threadIdx.x] += other;
  }
  if (threadIdx.x == 0) b[0] = s[0];
}
template <bool kWrong>
__global__ void shared_count_not_atomic(float* a, float* b, int) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  if (a[threadIdx.x] >= 0.0f) {
    if constexpr (kWrong) {
      count += 1;  // DEFECT shared_count_not_atomic
    } else {
      atomicAdd(&count, 1);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) b[0] = static_cast<float>(count);
}

// ---- races in global memory ----

template <bool kWrong>
__global__ void sum_not_atomic(float* a, float* b, int) {
  if (index() == 0) b[1] = 0.0f;
  if constexpr (kWrong) {
    a[0] += 1.0f;  // DEFECT sum_not_atomic
  } else {
    atomicAdd(a, 1.0f);
  }
}
template <bool kWrong>
__global__ void all_blocks_write(float* a, float* b, int) {
  if (threadIdx.x == 0) b[kWrong ? 0 : blockIdx.x] = a[blockIdx.x];  // DEFECT all_blocks_write
}
template <bool kWrong>
__global__ void reads_another_block(float* a, float* b, int n) {
  const int i = index();
  const float left = i > 0 ? a[kWrong ? i - 1 : i] : 0.0f;
  __syncthreads();
  if (i < n) a[i] = left + 1.0f;  // DEFECT reads_another_block
  if (i == 0) b[0] = left;
}
template <bool kWrong>
__global__ void missing_fence(float* a, float* b, int) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    b[blockIdx.x] = a[blockIdx.x];  // the partial result
    if (!kWrong) __threadfence();
    last = atomicAdd(reinterpret_cast<unsigned*>(a + 63), 1u) == __float_as_uint(63.0f) + gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x < gridDim.x) a[threadIdx.x] = b[threadIdx.x];  // DEFECT missing_fence
}
template <bool kWrong>
__global__ void flag_not_atomic(float* a, float* b, int) {
  if constexpr (kWrong) {
    if (a[0] < 5.0f) atomicExch(&a[0], 7.0f);  // DEFECT flag_not_atomic
  } else {
    if (atomicAdd(&a[0], 0.0f) < 5.0f) atomicExch(&a[0], 7.0f);
  }
  if (index() == 0) b[0] = 0.0f;
}
template <bool kWrong>
__global__ void neighbour_halves(float* a, float* b, int) {
  auto* h = reinterpret_cast<__nv_bfloat16*>(b);
  const auto value = from_float<__nv_bfloat16>(a[threadIdx.x]);
  h[kWrong ? threadIdx.x / 2 : threadIdx.x] = value;  // DEFECT neighbour_halves
}

// ---- bounds ----

template <bool kWrong>
__global__ void off_by_one_read(float* a, float* b, int n) {
  const int i = index();
  if (i < n) b[i] = a[kWrong ? i + 1 : i];  // DEFECT off_by_one_read
}
template <bool kWrong>
__global__ void off_by_one_write(float* a, float* b, int n) {
  const int i = index();
  if (kWrong ? i <= n : i < n) b[i] = a[0];  // DEFECT off_by_one_write
}
template <bool kWrong>
__global__ void unchecked_tail(float* a, float* b, int n) {
  const int i = index();
  if (!kWrong && i >= n) return;
  b[i] = 2.0f * a[0];  // DEFECT unchecked_tail
}
template <bool kWrong>
__global__ void before_the_start(float* a, float* b, int n) {
  const int i = index();
  if (i < n) b[i] = a[kWrong || i > 0 ? i - 1 : 0];  // DEFECT before_the_start
}
template <bool kWrong>
__global__ void half_past_the_end(float* a, float* b, int n) {
  auto* h = reinterpret_cast<__half*>(b);
  const int i = index();
  if (i < (kWrong ? 2 * n + 1 : 2 * n)) h[i] = from_float<__half>(a[0]);  // DEFECT half_past_the_end
}
template <bool kWrong>
__global__ void vector_past_the_end(float* a, float* b, int n) {
  const int i = 4 * index();
  if (kWrong ? i <= n : i + 4 <= n) {
    store_128(b + i, Vector128<float>{{a[0], a[0], a[0], a[0]}});  // DEFECT vector_past_the_end
  }
}
template <bool kWrong>
__global__ void shared_array_too_short(float* a, float* b, int) {
  __shared__ float neighbour[64];
  __shared__ float s[kWrong ? 63 : 64];
  neighbour[threadIdx.x] = 0.0f;
  s[threadIdx.x] = a[threadIdx.x];  // DEFECT shared_array_too_short
  __syncthreads();
  b[threadIdx.x] = s[threadIdx.x] + neighbour[threadIdx.x];
}
template <bool kWrong>
__global__ void dynamic_shared_too_short(float* a, float* b, int) {
  CAIRN_DYNAMIC_SHARED(float, s);
  const unsigned i = kWrong ? threadIdx.x + 4 : threadIdx.x;
  s[i] = a[threadIdx.x];  // DEFECT dynamic_shared_too_short
  b[threadIdx.x] = s[i];
}
template <bool kWrong>
__global__ void null_pointer(float* a, float* b, int) {
  float* p = kWrong ? nullptr : b;
  p[threadIdx.x] = a[threadIdx.x];  // DEFECT null_pointer
}
template <bool kWrong>
__global__ void local_array_passed_on(float* a, float* b, int) {
  __shared__ float* pointer;
  float mine[4] = {a[0], a[1], a[2], a[3]};
  if (threadIdx.x == 0) pointer = kWrong ? mine : a;
  __syncthreads();
  b[threadIdx.x] = pointer[threadIdx.x % 4] + mine[threadIdx.x % 4];  // DEFECT local_array_passed_on
  __syncthreads();
}

// ---- alignment ----

template <bool kWrong>
__global__ void misaligned_vector(float* a, float* b, int n) {
  const int i = 4 * index() + (kWrong ? 1 : 0);
  if (i + 4 <= n) b[i] = load_128(a + i).v[0];  // DEFECT misaligned_vector
}
template <bool kWrong>
__global__ void misaligned_pair(float* a, float* b, int) {
  const float* p = a + 2 * (threadIdx.x % 16) + kWrong;
  const float2 v = *reinterpret_cast<const float2*>(p);  // DEFECT misaligned_pair
  b[threadIdx.x] = v.x;
}

// ---- uninitialised memory ----

template <bool kWrong>
__global__ void uninitialised_shared(float* a, float* b, int) {
  __shared__ float sums[32];
  if (!kWrong && threadIdx.x < 32) sums[threadIdx.x] = 0.0f;
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = a[threadIdx.x];
  __syncthreads();
  b[threadIdx.x] = sums[threadIdx.x % 32];  // DEFECT uninitialised_shared
}
template <bool kWrong>
__global__ void uninitialised_global(float* a, float* b, int n) {
  const int i = index();
  if (i >= n) return;
  if (!kWrong) b[i] = 0.0f;
  b[i] += a[i];  // DEFECT uninitialised_global
}
template <bool kWrong>
__global__ void shared_of_the_last_block(float* a, float* b, int) {
  __shared__ float first;
  if ((kWrong ? blockIdx.x : 0) == 0 && threadIdx.x == 0) first = a[0];
  __syncthreads();
  b[index()] = first;  // DEFECT shared_of_the_last_block
}

// ---- barriers ----

template <bool kWrong>
__global__ void barrier_in_a_branch(float* a, float* b, int) {
  __shared__ float s[64];
  s[threadIdx.x] = a[threadIdx.x];
  if (kWrong ? threadIdx.x < 40 : blockIdx.x == 0) {
    __syncthreads();
  }
  __syncthreads();  // DEFECT barrier_in_a_branch
  b[threadIdx.x] = s[63 - threadIdx.x];
}
template <bool kWrong>
__global__ void barrier_after_return(float* a, float* b, int) {
  __shared__ float s[64];
  if (kWrong && threadIdx.x >= 50) return;
  s[threadIdx.x] = a[threadIdx.x];
  __syncthreads();  // DEFECT barrier_after_return
  b[threadIdx.x] = s[threadIdx.x];
}
template <bool kWrong>
__global__ void two_barriers(float* a, float* b, int) {
  __shared__ float s[64];
  s[threadIdx.x] = a[threadIdx.x];
  if (kWrong && threadIdx.x % 2) {
    __syncthreads();
  } else {
    __syncthreads();  // DEFECT two_barriers
  }
  b[threadIdx.x] = s[threadIdx.x];
}

// ---- warp functions ----

template <bool kWrong>
__global__ void shuffle_in_a_branch(float* a, float* b, int) {
  float v = a[threadIdx.x];
  if (threadIdx.x % 32 < 16) {
    v += __shfl_xor_sync(kWrong ? kFull : 0xffffu, v, 8);  // DEFECT shuffle_in_a_branch
  }
  __syncthreads();
  b[threadIdx.x] = v;
}
template <bool kWrong>
__global__ void caller_not_in_mask(float* a, float* b, int) {
  b[threadIdx.x] = __shfl_sync(kWrong ? 0x7fffffffu : kFull, a[threadIdx.x], 0);  // DEFECT caller_not_in_mask
}
template <bool kWrong>
__global__ void source_not_in_mask(float* a, float* b, int) {
  float v = a[threadIdx.x];
  if (threadIdx.x < 24)
    v += __shfl_down_sync(0xffffffu, v, kWrong ? 16 : 4, kWrong ? 32 : 8);  // DEFECT source_not_in_mask
  b[threadIdx.x] = v;
}
template <bool kWrong>
__global__ void source_has_returned(float* a, float* b, int) {
  if (threadIdx.x >= 20) return;
  b[threadIdx.x] =
      __shfl_sync(kWrong ? kFull : 0xfffffu, a[threadIdx.x], kWrong ? 25 : 5);  // DEFECT source_has_returned
}
template <bool kWrong>
__global__ void width_not_a_power(float* a, float* b, int) {
  b[threadIdx.x] = __shfl_sync(kFull, a[threadIdx.x], 0, kWrong ? 24 : 8);  // DEFECT width_not_a_power
}
template <bool kWrong>
__global__ void warp_barrier_for_the_block(float* a, float* b, int) {
  __shared__ float s[64];
  s[threadIdx.x] = a[threadIdx.x];
  if (kWrong) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  b[threadIdx.x] = s[threadIdx.x ^ 32];  // DEFECT warp_barrier_for_the_block
}
template <bool kWrong>
__global__ void shuffle_taken_for_a_barrier(float* a, float* b, int) {
  __shared__ float s[32];
  s[threadIdx.x] = a[threadIdx.x];
  const float first = __shfl_sync(kFull, a[threadIdx.x], 0);
  if (!kWrong) __syncwarp();
  b[threadIdx.x] = first + s[31 - threadIdx.x];  // DEFECT shuffle_taken_for_a_barrier
}

// ---- arithmetic, stack ----

template <bool kWrong>
__global__ void division_by_zero(float* a, float* b, int n) {
  const int divisor = kWrong ? static_cast<int>(a[0]) : n;
  b[threadIdx.x] = static_cast<float>(100 / divisor);  // DEFECT division_by_zero
}

#define CAIRN_MISTAKE(name, ...) \
  { #name, &name < true>, &name < false> __VA_OPT__(, ) __VA_ARGS__ }
constexpr Mistake kMistakes[] = {
    CAIRN_MISTAKE(missing_barrier),
    CAIRN_MISTAKE(missing_barrier_between_turns),
    CAIRN_MISTAKE(scratch_used_again),
    CAIRN_MISTAKE(lockstep_trusted, 1, 32),
    CAIRN_MISTAKE(shared_count_not_atomic),
    CAIRN_MISTAKE(sum_not_atomic),
    CAIRN_MISTAKE(all_blocks_write, 4),
    CAIRN_MISTAKE(reads_another_block, 2, 32),
    CAIRN_MISTAKE(missing_fence, 5),
    CAIRN_MISTAKE(flag_not_atomic),
    CAIRN_MISTAKE(neighbour_halves),
    CAIRN_MISTAKE(off_by_one_read),
    CAIRN_MISTAKE(off_by_one_write, 2),
    CAIRN_MISTAKE(unchecked_tail, 2),
    CAIRN_MISTAKE(before_the_start),
    CAIRN_MISTAKE(half_past_the_end, 3),
    CAIRN_MISTAKE(vector_past_the_end),
    CAIRN_MISTAKE(shared_array_too_short),
    CAIRN_MISTAKE(dynamic_shared_too_short, 1, 64, 256),
    CAIRN_MISTAKE(null_pointer),
    CAIRN_MISTAKE(local_array_passed_on),
    CAIRN_MISTAKE(misaligned_vector),
    CAIRN_MISTAKE(misaligned_pair),
    CAIRN_MISTAKE(uninitialised_shared),
    CAIRN_MISTAKE(uninitialised_global),
    CAIRN_MISTAKE(shared_of_the_last_block, 2, 32),
    CAIRN_MISTAKE(barrier_in_a_branch),
    CAIRN_MISTAKE(barrier_after_return),
    CAIRN_MISTAKE(two_barriers),
    CAIRN_MISTAKE(shuffle_in_a_branch),
    CAIRN_MISTAKE(caller_not_in_mask),
    CAIRN_MISTAKE(source_not_in_mask, 1, 32),
    CAIRN_MISTAKE(source_has_returned, 1, 32),
    CAIRN_MISTAKE(width_not_a_power),
    CAIRN_MISTAKE(warp_barrier_for_the_block),
    CAIRN_MISTAKE(shuffle_taken_for_a_barrier, 1, 32),
    CAIRN_MISTAKE(division_by_zero),
};

}  // namespace

std::span<const Mistake> mistakes() { return kMistakes; }

Status run_mistake(const Mistake& m, bool wrong, float* a, float* b, int n) {
  return launch(wrong ? m.wrong : m.right, m.grid, m.block, m.shared_bytes, nullptr, a, b, n);
}

}  // namespace cairn::kernels
