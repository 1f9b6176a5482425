// The tensor core's products of one warp, d += a * b.
#pragma once

#include <cstdint>
#include <source_location>

namespace moek::emulation {

enum class MmaKind : uint8_t { kM16N8K16Bf16, kM16N8K16F16, kM16N8K8Tf32 };

// The fragments are those of cuda/common/mma.hpp.
//
// Sums as measured on the hardware (M. Fasi, N. Higham, M. Mikaitis, S. Pranesh, "Numerical behavior of NVIDIA tensor
// cores", PeerJ Computer Science 7, 2021): products are exact; four (tf32) or eight of them and the accumulator are
// aligned to the largest, cut off below its 25th bit, added, and the sum is cut off to a float. So errors here are
// about as large as there, and lie on the same side; the bits may differ.
void mma(MmaKind kind, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
         std::source_location where = std::source_location::current());

}  // namespace moek::emulation
