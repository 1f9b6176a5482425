namespace MoEKernels;

/// <summary>
/// The element types of one call, by role. Only the combinations offered as static properties are legal; the default
/// value is <see cref="F32"/>.
/// </summary>
/// <param name="X">x, dx, router_input and drouter_input.</param>
/// <param name="Weight">A, B and C.</param>
/// <param name="Router">W_r and W_g.</param>
/// <param name="Y">y and dy.</param>
/// <param name="Grad">dA, dB, dC, dW_r and dW_g.</param>
public readonly record struct DTypeSet(DType X, DType Weight, DType Router, DType Y, DType Grad)
{
    /// <summary>Everything in f32.</summary>
    public static DTypeSet F32 => Uniform(DType.F32);

    /// <summary>Everything in bf16; sums and saved tensors in f32.</summary>
    public static DTypeSet BF16 => Uniform(DType.BF16);

    /// <summary>Everything in f16; sums and saved tensors in f32.</summary>
    public static DTypeSet F16 => Uniform(DType.F16);

    /// <summary>Everything in f64, on the CPU only: for gradient checks.</summary>
    public static DTypeSet F64 => Uniform(DType.F64);

    /// <summary>bf16 activations with f32 adapters, routers and weight gradients.</summary>
    public static DTypeSet MixedBF16 => Mixed(DType.BF16);

    /// <summary>f16 activations with f32 adapters, routers and weight gradients.</summary>
    public static DTypeSet MixedF16 => Mixed(DType.F16);

    /// <summary>
    /// Type of gate weights, biases, log-sum-exp and everything saved for backward: f64 where x is f64, else f32.
    /// </summary>
    public DType Accumulator => X == DType.F64 ? DType.F64 : DType.F32;

    private static DTypeSet Uniform(DType type) => new(type, type, type, type, type);

    private static DTypeSet Mixed(DType activation) => new(activation, DType.F32, DType.F32, activation, DType.F32);
}
