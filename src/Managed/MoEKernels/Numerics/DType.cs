namespace MoEKernels;

/// <summary>Element type of a tensor.</summary>
public enum DType
{
    /// <summary>IEEE binary32, <see cref="float"/>.</summary>
    F32 = 0,

    /// <summary>bfloat16, the upper half of a binary32 rounded to nearest even, <see cref="BFloat16"/>.</summary>
    BF16 = 1,

    /// <summary>IEEE binary16, <see cref="Half"/>.</summary>
    F16 = 2,

    /// <summary>IEEE binary64, <see cref="double"/>; CPU only, for gradient checks.</summary>
    F64 = 3,
}
