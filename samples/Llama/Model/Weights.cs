using TorchSharp.Modules;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Makes layers whose weights are not drawn but wait for those of a checkpoint, which saves the time and the random numbers.</summary>
internal static class Weights
{
    /// <summary>A parameter with undefined values that belongs to no DisposeScope.</summary>
    /// <param name="dtype">The element type.</param>
    /// <param name="shape">The shape.</param>
    public static Parameter Empty(ScalarType dtype, params long[] shape)
    {
        Parameter parameter = new(empty(shape, dtype));
        parameter.DetachFromDisposeScope();
        return parameter;
    }

    /// <summary>A linear layer.</summary>
    /// <param name="dtype">The element type.</param>
    /// <param name="dIn">The width of its input.</param>
    /// <param name="dOut">The width of its output.</param>
    /// <param name="hasBias">Whether it adds a bias.</param>
    /// <returns>Declared as what an adapter, too, is: <c>Linear</c> is sealed, so a field of that type could not hold one.</returns>
    public static nn.Module<Tensor, Tensor> Linear(ScalarType dtype, long dIn, long dOut, bool hasBias) =>
        nn.Linear(Empty(dtype, dOut, dIn), hasBias ? Empty(dtype, dOut) : null);
}
