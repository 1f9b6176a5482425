using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>What is added to an output as one pair of factors, scale B A x.</summary>
/// <param name="A">A, [r, d_in].</param>
/// <param name="B">B, [d_out, r].</param>
/// <param name="Scale">The scale.</param>
internal readonly record struct LoraFactors(Tensor A, Tensor B, double Scale)
{
    public long Rank => A.size(0);
}
