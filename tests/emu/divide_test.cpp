// Division of indices in kernels, below and above 32 bits, against the host's.
#include "tests/emu/divide.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace cairn::kernels {
namespace {

TEST(Divide, EqualsTheHostsDivisionOnBothSidesOf32Bits) {
  constexpr std::int64_t k32 = std::int64_t{1} << 32, kMost = std::numeric_limits<std::int64_t>::max();
  std::vector<std::int64_t> a, b;
  for (const std::int64_t x :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{6}, std::int64_t{1000003}, k32 / 2 - 1, k32 / 2,
        k32 - 1, k32, k32 + 1, 12345678901234567, kMost - 1, kMost})
    for (const std::int64_t y :
         {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{7}, std::int64_t{224},
          std::int64_t{65535}, k32 / 2, k32 - 1, k32, k32 + 1, kMost}) {
      a.push_back(x);
      b.push_back(y);
    }
  const std::size_t n = a.size(), bytes = n * sizeof(std::int64_t);
  ASSERT_LE(n, 256u);
  std::int64_t* device[3];
  for (std::int64_t*& p : device) ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&p), bytes), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(device[0], a.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(device[1], b.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_TRUE(run_divide(device[0], device[1], device[2], static_cast<int>(n)).ok());
  std::vector<std::int64_t> got(n);
  ASSERT_EQ(cudaMemcpy(got.data(), device[2], bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(got[i], a[i] / b[i]) << a[i] << " / " << b[i];
  for (std::int64_t* p : device) EXPECT_EQ(cudaFree(p), cudaSuccess);
}

}  // namespace
}  // namespace cairn::kernels
