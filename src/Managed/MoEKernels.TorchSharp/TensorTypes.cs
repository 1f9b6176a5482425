using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>The element types that adapters and ops know.</summary>
internal static class TensorTypes
{
    public static bool IsSupported(ScalarType type) =>
        type is ScalarType.Float32 or ScalarType.BFloat16 or ScalarType.Float16 or ScalarType.Float64;

    /// <summary>The type that sums, gates and biases have beside activations of the given type.</summary>
    public static ScalarType Accumulator(ScalarType type) => type == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    /// <summary>Whether adapter weights of one type can serve activations of another: the same, or f32 below half precision.</summary>
    public static bool AreCompatible(ScalarType activations, ScalarType weights) =>
        activations == weights
        || (weights == ScalarType.Float32 && activations is ScalarType.BFloat16 or ScalarType.Float16);
}
