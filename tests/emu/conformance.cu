// Small programs whose result the CUDA C++ Programming Guide defines; conformance_test.cpp says which section
// and what comes out. Each takes words in and gives words out, so that one launcher serves all.
#include "kernels/cuda/launch.h"
#include "tests/emu/programs.h"

namespace cairn::kernels {
namespace {

constexpr unsigned kFull = 0xffffffffu;

__device__ unsigned linear_thread() {
  return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}
__device__ unsigned linear_block() { return blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z); }

__global__ void indices(const Word*, Word* out) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  Word* mine = out + 2 * (linear_block() * threads + linear_thread());
  mine[0] = threadIdx.x | threadIdx.y << 8 | threadIdx.z << 16;
  mine[1] = blockIdx.x | blockIdx.y << 8 | blockIdx.z << 16;
}
__global__ void warp_layout(const Word*, Word* out) {
  out[linear_thread()] = __shfl_sync(kFull, linear_thread(), 0);
}

__global__ void shuffle_index(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_sync(kFull, in[threadIdx.x], static_cast<int>(threadIdx.x * 7));
}
__global__ void shuffle_index_width(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_sync(kFull, in[threadIdx.x], 11, 8);
}
__global__ void shuffle_up(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_up_sync(kFull, in[threadIdx.x], 3);
}
__global__ void shuffle_up_width(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_up_sync(kFull, in[threadIdx.x], 3, 8);
}
__global__ void shuffle_down(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_down_sync(kFull, in[threadIdx.x], 5);
}
__global__ void shuffle_down_width(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_down_sync(kFull, in[threadIdx.x], 5, 16);
}
__global__ void shuffle_xor(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_xor_sync(kFull, in[threadIdx.x], 21);
}
__global__ void shuffle_xor_width(const Word* in, Word* out) {
  out[threadIdx.x] = __shfl_xor_sync(kFull, in[threadIdx.x], 12, 8);
}
__global__ void shuffle_wide_types(const Word* in, Word* out) {
  const unsigned long long wide = static_cast<unsigned long long>(in[threadIdx.x]) << 32 | threadIdx.x;
  const unsigned long long got = __shfl_xor_sync(kFull, wide, 1);
  const double d = __shfl_down_sync(kFull, static_cast<double>(in[threadIdx.x]) + 0.5, 0);
  out[4 * threadIdx.x] = static_cast<Word>(got >> 32);
  out[4 * threadIdx.x + 1] = static_cast<Word>(got);
  out[4 * threadIdx.x + 2] = static_cast<Word>(2 * d);
  out[4 * threadIdx.x + 3] = static_cast<Word>(
      to_float(__shfl_xor_sync(kFull, from_float<__nv_bfloat16>(static_cast<float>(threadIdx.x)), 1)));
}
// Two branches, each with the mask of those that take it.
__global__ void shuffle_two_masks(const Word* in, Word* out) {
  const bool odd = threadIdx.x & 1;
  if (odd) {
    out[threadIdx.x] = __shfl_xor_sync(0xaaaaaaaau, in[threadIdx.x], 2);
  } else {
    out[threadIdx.x] = __shfl_xor_sync(0x55555555u, in[threadIdx.x], 4);
  }
}
__global__ void ballot(const Word* in, Word* out) {
  out[threadIdx.x] = __ballot_sync(kFull, in[threadIdx.x] % 3 == 0);
}
__global__ void ballot_part(const Word* in, Word* out) {
  if (threadIdx.x < 12) out[threadIdx.x] = __ballot_sync(0xfffu, in[threadIdx.x] % 3 == 0);
}
__global__ void any_all(const Word* in, Word* out) {
  out[threadIdx.x] = static_cast<Word>(__any_sync(kFull, static_cast<int>(in[0]))) |
                     static_cast<Word>(__all_sync(kFull, in[threadIdx.x] < 8)) << 1 |
                     static_cast<Word>(__any_sync(kFull, in[threadIdx.x] > 1000)) << 2 |
                     static_cast<Word>(__all_sync(kFull, 4)) << 3;
}
__global__ void match_any(const Word* in, Word* out) {
  out[threadIdx.x] = __match_any_sync(kFull, in[threadIdx.x] % 5);
}
__global__ void match_all(const Word* in, Word* out) {
  int same = 7;
  out[2 * threadIdx.x] = __match_all_sync(kFull, in[threadIdx.x], &same);
  out[2 * threadIdx.x + 1] = static_cast<Word>(same);
}
__global__ void warp_reduce_functions([[maybe_unused]] const Word* in, [[maybe_unused]] Word* out) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800  // older ones have none
  const Word v = in[threadIdx.x];
  const Word all[7] = {__reduce_add_sync(kFull, v),
                       __reduce_min_sync(kFull, v),
                       __reduce_max_sync(kFull, v),
                       __reduce_and_sync(kFull, v | 0xf0u),
                       __reduce_or_sync(kFull, v),
                       __reduce_xor_sync(kFull, v),
                       static_cast<Word>(__reduce_min_sync(kFull, static_cast<int>(v) - 100))};
  for (int i = 0; i < 7; ++i) out[7 * threadIdx.x + i] = all[i];
#endif
}
// Lanes from 20 on have returned: the mask of the others names no one who is missing.
__global__ void exited_lanes(const Word* in, Word* out) {
  if (threadIdx.x >= 20) return;
  out[threadIdx.x] = __shfl_sync(0xfffffu, in[threadIdx.x], 19 - static_cast<int>(threadIdx.x));
}

__global__ void barrier_votes(const Word* in, Word* out) {
  const int p = in[threadIdx.x] % 3 == 0;
  out[3 * threadIdx.x] = static_cast<Word>(__syncthreads_count(p));
  out[3 * threadIdx.x + 1] = static_cast<Word>(__syncthreads_and(p) != 0);
  out[3 * threadIdx.x + 2] = static_cast<Word>(__syncthreads_or(p) != 0);
}
__global__ void barrier_uniform_branch(const Word* in, Word* out) {
  __shared__ Word s[96];
  s[threadIdx.x] = in[threadIdx.x];
  if (in[0] != 12345) __syncthreads();
  out[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}
__global__ void warp_barrier(const Word* in, Word* out) {
  __shared__ Word s[64];
  s[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  out[threadIdx.x] = s[threadIdx.x ^ 31];
}
__global__ void warp_barrier_part(const Word* in, Word* out) {
  __shared__ Word s[32];
  s[threadIdx.x] = in[threadIdx.x];
  if (threadIdx.x < 8) {
    __syncwarp(0xffu);
    out[threadIdx.x] = s[7 - threadIdx.x];
  } else {
    __syncwarp(0xffffff00u);
    out[threadIdx.x] = s[39 - threadIdx.x];
  }
}
// Hillis and Steele's scan: as many barriers as it takes, two a turn.
__global__ void scan(const Word* in, Word* out) {
  __shared__ Word s[1024];
  s[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  for (unsigned step = 1; step < blockDim.x; step *= 2) {
    const Word left = threadIdx.x >= step ? s[threadIdx.x - step] : 0;
    __syncthreads();
    s[threadIdx.x] += left;
    __syncthreads();
  }
  out[threadIdx.x] = s[threadIdx.x];
}

__global__ void shared_static_2d(const Word* in, Word* out) {
  __shared__ Word tile[16][17];
  tile[threadIdx.y][threadIdx.x] = in[threadIdx.y * 16 + threadIdx.x];
  __syncthreads();
  out[threadIdx.y * 16 + threadIdx.x] = tile[threadIdx.x][threadIdx.y];
}
__global__ void shared_dynamic(const Word* in, Word* out) {
  CAIRN_DYNAMIC_SHARED(Word, s);
  s[blockDim.x - 1 - threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = s[threadIdx.x];
}
__global__ void local_arrays(const Word* in, Word* out) {
  Word mine[64];
  for (unsigned i = 0; i < 64; ++i) mine[i] = in[threadIdx.x] * i;
  __syncthreads();
  Word sum = 0;
  for (unsigned i = 0; i < 64; ++i) sum += mine[(i * 5 + threadIdx.x) % 64];
  out[threadIdx.x] = sum;
}
__constant__ Word constant_words[4];
__global__ void constant_memory(const Word*, Word* out) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = constant_words[threadIdx.x % 4];
}

// out[0..]: 8 results; out[8 + i]: what the i-th thread's atomicAdd returned.
__global__ void atomics_integer(const Word* in, Word* out) {
  const auto signed_value = static_cast<int>(in[threadIdx.x]) - 50;
  out[8 + threadIdx.x] = atomicAdd(&out[0], 1u);
  atomicSub(&out[1], 2u);
  atomicMin(reinterpret_cast<int*>(&out[2]), signed_value);
  atomicMax(reinterpret_cast<int*>(&out[3]), signed_value);
  atomicAnd(&out[4], ~(1u << threadIdx.x % 8));
  atomicOr(&out[5], 1u << threadIdx.x % 8);
  atomicXor(&out[6], threadIdx.x);
  atomicInc(&out[7], 9u);
}
__global__ void atomic_dec(const Word*, Word* out) { out[1 + threadIdx.x] = atomicDec(&out[0], 5u); }
__global__ void atomic_exchange(const Word*, Word* out) {
  out[1 + threadIdx.x] = atomicExch(&out[0], threadIdx.x + 100);
}
__global__ void atomic_cas(const Word*, Word* out) {
  out[1 + threadIdx.x] = atomicCAS(&out[0], 7u, threadIdx.x + 100);
}
__global__ void atomics_wide(const Word* in, Word* out) {
  atomicAdd(reinterpret_cast<unsigned long long*>(out), (1ull << 33) + in[threadIdx.x]);
  atomicAdd(reinterpret_cast<float*>(out + 2), static_cast<float>(in[threadIdx.x]));
  atomicAdd(reinterpret_cast<double*>(out + 4), 0.5);
  atomicMax(reinterpret_cast<unsigned long long*>(out + 6), 1ull << in[threadIdx.x] % 40);
}
__global__ void atomics_half(const Word*, Word* out) {
  atomicAdd(reinterpret_cast<__half2*>(out), __floats2half2_rn(1.0f, 2.0f));
  atomicAdd(reinterpret_cast<__nv_bfloat162*>(out + 1), __floats2bfloat162_rn(0.5f, -1.0f));
}
__global__ void atomics_shared(const Word* in, Word* out) {
  __shared__ Word histogram[10];
  if (threadIdx.x < 10) histogram[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&histogram[in[threadIdx.x] % 10], 1u);
  __syncthreads();
  if (threadIdx.x < 10) out[threadIdx.x] = histogram[threadIdx.x];
}
// Every thread takes a lock in turn: each makes progress whatever the others of its warp do.
__global__ void spin_lock(const Word*, Word* out) {
  while (atomicCAS(&out[0], 0u, 1u) != 0u) {
  }
  __threadfence();
  atomicAdd(&out[1], threadIdx.x);
  __threadfence();
  atomicExch(&out[0], 0u);
}
// The block that comes last adds up what all have written.
__global__ void last_block(const Word* in, Word* out) {
  __shared__ bool last;
  const Word v = in[blockIdx.x * blockDim.x + threadIdx.x];
  const auto votes = static_cast<Word>(__syncthreads_count(v % 2 == 1));
  if (threadIdx.x == 0) {
    out[2 + blockIdx.x] = votes;
    __threadfence();
    last = atomicAdd(&out[0], 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    Word sum = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) sum += out[2 + b];
    out[1] = sum;
  }
}

__global__ void round_bf16(const Word* in, Word* out) {
  const __nv_bfloat16 h = from_float<__nv_bfloat16>(__uint_as_float(in[threadIdx.x]));
  out[threadIdx.x] = __float_as_uint(to_float(h));
}
__global__ void round_fp16(const Word* in, Word* out) {
  const __half h = from_float<__half>(__uint_as_float(in[threadIdx.x]));
  out[threadIdx.x] = __float_as_uint(to_float(h));
}
__global__ void to_integer(const Word* in, Word* out) {
  const float x = __uint_as_float(in[threadIdx.x]);
  out[3 * threadIdx.x] = static_cast<Word>(__float2int_rz(x));
  out[3 * threadIdx.x + 1] = static_cast<Word>(__float2int_rn(x));
  out[3 * threadIdx.x + 2] = __float2uint_rz(x);
}
__global__ void min_max(const Word* in, Word* out) {
  const float a = __uint_as_float(in[2 * threadIdx.x]), b = __uint_as_float(in[2 * threadIdx.x + 1]);
  out[2 * threadIdx.x] = __float_as_uint(fminf(a, b));
  out[2 * threadIdx.x + 1] = __float_as_uint(fmaxf(a, b));
}
__global__ void bits(const Word* in, Word* out) {
  const Word x = in[threadIdx.x];
  const Word all[9] = {static_cast<Word>(__popc(x)),
                       static_cast<Word>(__clz(static_cast<int>(x))),
                       static_cast<Word>(__ffs(static_cast<int>(x))),
                       __brev(x),
                       __umulhi(x, 0x12345678u),
                       __byte_perm(x, 0xa1b2c3d4u, 0x5210u),
                       __byte_perm(x, 0xa1b2c3d4u, 0x00fbu),
                       __funnelshift_l(x, 0xa1b2c3d4u, 12),
                       __funnelshift_r(x, 0xa1b2c3d4u, 40)};
  for (int i = 0; i < 9; ++i) out[9 * threadIdx.x + i] = all[i];
}
__global__ void vectors(const Word* in, Word* out) {
  const Vector128<Word> v = load_128(in + 4 * threadIdx.x);
  store_128(out + 4 * threadIdx.x, Vector128<Word>{{v.v[3], v.v[2], v.v[1], v.v[0]}});
}

// The order of two of these shows in the result. It takes its time first (some 100 us on a GPU), so that work
// which ought to wait for it, and does not, comes before it.
__global__ void late_twice_plus(const Word* in, Word* out) {
  Word x = in[threadIdx.x];
  for (int i = 0; i < 20000; ++i) x = x * 1664525u + 1013904223u;
  out[threadIdx.x] = 2 * out[threadIdx.x] + in[threadIdx.x] + (x == in[threadIdx.x] ? 1 : 0);
}

struct Program {
  const char* name;
  void (*kernel)(const Word*, Word*);
};
constexpr Program kPrograms[] = {
    {"indices", indices},
    {"warp_layout", warp_layout},
    {"shuffle_index", shuffle_index},
    {"shuffle_index_width", shuffle_index_width},
    {"shuffle_up", shuffle_up},
    {"shuffle_up_width", shuffle_up_width},
    {"shuffle_down", shuffle_down},
    {"shuffle_down_width", shuffle_down_width},
    {"shuffle_xor", shuffle_xor},
    {"shuffle_xor_width", shuffle_xor_width},
    {"shuffle_wide_types", shuffle_wide_types},
    {"shuffle_two_masks", shuffle_two_masks},
    {"ballot", ballot},
    {"ballot_part", ballot_part},
    {"any_all", any_all},
    {"match_any", match_any},
    {"match_all", match_all},
    {"warp_reduce_functions", warp_reduce_functions},
    {"exited_lanes", exited_lanes},
    {"barrier_votes", barrier_votes},
    {"barrier_uniform_branch", barrier_uniform_branch},
    {"warp_barrier", warp_barrier},
    {"warp_barrier_part", warp_barrier_part},
    {"scan", scan},
    {"shared_static_2d", shared_static_2d},
    {"shared_dynamic", shared_dynamic},
    {"local_arrays", local_arrays},
    {"constant_memory", constant_memory},
    {"atomics_integer", atomics_integer},
    {"atomic_dec", atomic_dec},
    {"atomic_exchange", atomic_exchange},
    {"atomic_cas", atomic_cas},
    {"atomics_wide", atomics_wide},
    {"atomics_half", atomics_half},
    {"atomics_shared", atomics_shared},
    {"spin_lock", spin_lock},
    {"last_block", last_block},
    {"round_bf16", round_bf16},
    {"round_fp16", round_fp16},
    {"to_integer", to_integer},
    {"min_max", min_max},
    {"bits", bits},
    {"vectors", vectors},
    {"late_twice_plus", late_twice_plus},
};

}  // namespace

Status run_program(const std::string& name, dim3 grid, dim3 block, std::size_t shared_bytes, const Word* in,
                   Word* out, cudaStream_t stream) {
  for (const Program& p : kPrograms)
    if (name == p.name) return launch(p.kernel, grid, block, shared_bytes, stream, in, out);
  return Status::error("no program " + name);
}

cudaError_t set_constant(const Word (&values)[4]) {
  return cudaMemcpyToSymbol(constant_words, values, sizeof values);
}

}  // namespace cairn::kernels
