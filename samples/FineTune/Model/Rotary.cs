using static TorchSharp.torch;

namespace FineTune;

/// <summary>Rotary position embedding (Su et al. 2021): turns pairs of channels by an angle that grows with the position.</summary>
internal static class Rotary
{
    private const double Base = 10000;

    /// <summary>The cosines and sines of every position.</summary>
    /// <param name="positions">The number of positions.</param>
    /// <param name="headWidth">The width of an attention head.</param>
    /// <returns>Two tensors of shape <c>[positions, headWidth / 2]</c>.</returns>
    public static (Tensor Cos, Tensor Sin) Angles(int positions, int headWidth)
    {
        using var scope = NewDisposeScope();
        Tensor frequency = exp(arange(0, headWidth, 2, float32) * (-Math.Log(Base) / headWidth));
        Tensor angle = outer(arange(positions, float32), frequency);
        return (angle.cos().MoveToOuterDisposeScope(), angle.sin().MoveToOuterDisposeScope());
    }

    /// <summary>Turns <paramref name="x"/> by the angles of its positions.</summary>
    /// <param name="x">Shape <c>[batch, heads, length, headWidth]</c>.</param>
    /// <param name="cos">Shape <c>[length, headWidth / 2]</c>.</param>
    /// <param name="sin">Shape <c>[length, headWidth / 2]</c>.</param>
    /// <returns>The shape of <paramref name="x"/>.</returns>
    public static Tensor Apply(Tensor x, Tensor cos, Tensor sin)
    {
        Tensor[] halves = x.chunk(2, dim: -1);
        return cat([(halves[0] * cos) - (halves[1] * sin), (halves[0] * sin) + (halves[1] * cos)], dim: -1);
    }
}
