#pragma once
#include <cstddef>

#include "kernels/conv.h"

/// Winograd's F(4x4, 3x3) (Lavin & Gray, "Fast algorithms for convolutional neural networks", 2016): 36
/// multiplications where a direct 3x3 convolution takes 144. fp32 and bf16 (computed in fp32 from the rounded
/// filters), NHWC, stride 1, all three passes.
namespace cairn::kernels::winograd {

/// Whether conv.cpp may use it at all; at first, unless CAIRN_WITHOUT=winograd. For tests and measurements.
void set_enabled(bool on);
bool enabled();

/// Whether it is enabled, serves this problem, and has been measured to be faster there than direct
/// convolution.
bool suits(const Conv2dForward& a);
bool suits(const Conv2dBackwardData& a);
bool suits(const Conv2dBackwardWeight& a);

/// Scratch that run() needs in a.scratch.
std::size_t workspace(const Conv2dForward& a);
std::size_t workspace(const Conv2dBackwardData& a);
std::size_t workspace(const Conv2dBackwardWeight& a);

/// The transformed filters, for a.packed in run(): their length, and a place of that length to put them.
std::size_t packed_bytes(const Conv2dForward& a);
void pack(const Conv2dForward& a, void* packed);

void run(const Conv2dForward& a);
void run(const Conv2dBackwardData& a);
/// dw only.
void run(const Conv2dBackwardWeight& a);

}  // namespace cairn::kernels::winograd
