using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Reference;

/// <summary>
/// The formulas of the ops in plain TorchSharp operations, written as fast as these allow: the oracle of the tests and the baseline of
/// the benchmarks. Autograd derives the gradients.
/// </summary>
public static partial class ReferenceOps
{
    /// <summary>Plain LoRA: scale B A x. Source: arXiv 2106.09685.</summary>
    /// <param name="x">[.., d_in].</param>
    /// <param name="a">A, [r, d_in]; f32 below a bf16 or f16 x, else of x's type.</param>
    /// <param name="b">B, [d_out, r], of A's type.</param>
    /// <param name="scale">Factor on the output.</param>
    /// <returns>[.., d_out], of x's type.</returns>
    public static Tensor Lora(Tensor x, Tensor a, Tensor b, double scale)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        using var scope = NewDisposeScope();
        Tensor down = nn.functional.linear(x.to(a.dtype), a);
        return nn.functional.linear(down * scale, b).to(x.dtype).MoveToOuterDisposeScope();
    }
}
