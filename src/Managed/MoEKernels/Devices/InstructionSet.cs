namespace MoEKernels;

/// <summary>Instruction set of the CPU backend.</summary>
public enum InstructionSet
{
    /// <summary>The best one that this processor has.</summary>
    Auto = 0,

    /// <summary>What the native compiler's baseline target has (SSE2 on x86-64).</summary>
    Scalar = 1,

    /// <summary>AVX2, FMA and F16C.</summary>
    Avx2 = 2,

    /// <summary>AVX-512 F, BW, DQ and VL.</summary>
    Avx512 = 3,

    /// <summary>Advanced SIMD of 64-bit Arm.</summary>
    Neon = 4,

    /// <summary>
    /// <see cref="Avx512"/>, and VDPBF16PS for products of two bf16 matrices. It takes bf16 numbers below 2^-126 for zeros.
    /// </summary>
    Avx512Bf16 = 5,
}
