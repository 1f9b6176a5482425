using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Keeps a load bias in the type that the ops want while a module changes its type around it.</summary>
internal static class LoadBias
{
    /// <summary>
    /// The bias in f32, or in f64 for f64 parameters: steps of 1e-5 vanish in half precision, so <c>to()</c> must not take them there.
    /// </summary>
    /// <param name="before">A copy of the bias from before the conversion; disposed of here.</param>
    /// <param name="converted">What the conversion made of it; disposed of here when it is not the result.</param>
    /// <param name="parameterType">Type of the module's parameters now.</param>
    public static Tensor Restore(Tensor before, Tensor converted, ScalarType parameterType)
    {
        ScalarType type = TensorTypes.Accumulator(parameterType);
        if (converted.dtype == type)
        {
            before.Dispose();
            return converted;
        }
        using (before)
        using (converted)
        {
            return before.to(type, converted.device, copy: true).DetachFromDisposeScope();
        }
    }
}
