using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>One layer of a <see cref="PeftAdapter"/>. The tensors are the adapter's own, not copies.</summary>
/// <param name="Path">Path of the layer in the model.</param>
/// <param name="A">A, [r, d_in] (<c>lora_A.weight</c>, or <c>lora_embedding_A</c>; [r, d_in, ...] for a convolution).</param>
/// <param name="B">B, [d_out, r] (<c>lora_B.weight</c>, or <c>lora_embedding_B</c>).</param>
/// <param name="Scale">What B A is multiplied by, see <see cref="PeftConfig.ScaleOf"/>.</param>
/// <param name="Bias">Bias of B, [d_out] (<c>lora_B.bias</c>); null without <see cref="PeftConfig.LoraBias"/>.</param>
/// <param name="Magnitude">DoRA's magnitude m, d_out values (<c>lora_magnitude_vector</c>); null without <see cref="PeftConfig.UseDora"/>.</param>
/// <param name="IsEmbedding">Whether the layer is an embedding, whose table A indexes.</param>
public sealed record PeftLayer(string Path, Tensor A, Tensor B, double Scale, Tensor? Bias, Tensor? Magnitude, bool IsEmbedding)
{
    /// <summary>Rank r.</summary>
    public long Rank => A.size(0);

    /// <summary>Input width d_in.</summary>
    public long InFeatures => A.size(1);

    /// <summary>Output width d_out.</summary>
    public long OutFeatures => B.size(0);

    /// <summary>s B A, [d_out, d_in]: what the layer adds to the weight. Without DoRA's magnitude.</summary>
    /// <returns>A new tensor in f32, or f64 when A or B is, in the current DisposeScope if there is one.</returns>
    /// <exception cref="NotSupportedException">The layer is a convolution.</exception>
    public Tensor Delta()
    {
        if (A.dim() != 2 || B.dim() != 2)
            throw new NotSupportedException($"'{Path}' is a convolution, A has {A.dim()} dimensions; expected a linear layer or an embedding.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        ScalarType type = A.dtype == ScalarType.Float64 || B.dtype == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
        return (B.to(type).matmul(A.to(type)) * Scale).MoveToOuterDisposeScope();
    }
}
