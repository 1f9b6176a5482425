using static TorchSharp.torch;

namespace Llama;

/// <summary>The cosines and sines of the positions that a forward computes.</summary>
/// <param name="Cos">Shape <c>[positions, headWidth]</c>, the second half of a row equal to the first.</param>
/// <param name="Sin">The same of the sines.</param>
internal sealed record RotaryAngles(Tensor Cos, Tensor Sin)
{
    /// <summary>Turns channels <c>i</c> and <c>i + headWidth / 2</c> of every head as a pair.</summary>
    /// <param name="x">Shape <c>[batch, heads, positions, headWidth]</c>.</param>
    /// <returns>The shape of <paramref name="x"/>.</returns>
    public Tensor Turn(Tensor x)
    {
        Tensor[] halves = x.chunk(2, dim: -1);
        return (x * Cos) + (cat([-halves[1], halves[0]], dim: -1) * Sin);
    }
}
