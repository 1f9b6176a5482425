using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>Element types of a workload.</summary>
public enum Precision
{
    /// <summary>Everything f32.</summary>
    F32,

    /// <summary>Everything bf16; sums and gates f32.</summary>
    BF16,

    /// <summary>Everything f16; sums and gates f32.</summary>
    F16,

    /// <summary>bf16 activations with f32 adapters and gradients: mixed precision without autocast.</summary>
    MixedBF16,

    /// <summary>Everything f64, for checks.</summary>
    F64,
}

internal static class PrecisionExtensions
{
    public static ScalarType Activation(this Precision precision) => precision switch
    {
        Precision.F32 => ScalarType.Float32,
        Precision.F64 => ScalarType.Float64,
        Precision.F16 => ScalarType.Float16,
        _ => ScalarType.BFloat16,
    };

    public static ScalarType Weight(this Precision precision) => precision switch
    {
        Precision.F64 => ScalarType.Float64,
        Precision.BF16 => ScalarType.BFloat16,
        Precision.F16 => ScalarType.Float16,
        _ => ScalarType.Float32,
    };

    public static ScalarType Accumulator(this Precision precision) =>
        precision == Precision.F64 ? ScalarType.Float64 : ScalarType.Float32;

    /// <summary>Bytes of an element.</summary>
    public static int ElementSize(this ScalarType type) => type switch
    {
        ScalarType.Float64 => sizeof(double),
        ScalarType.Float32 => sizeof(float),
        _ => sizeof(short),
    };

    public static DTypeSet DTypes(this Precision precision) => precision switch
    {
        Precision.F32 => DTypeSet.F32,
        Precision.BF16 => DTypeSet.BF16,
        Precision.F16 => DTypeSet.F16,
        Precision.MixedBF16 => DTypeSet.MixedBF16,
        _ => DTypeSet.F64,
    };
}
