using TorchSharp.Modules;
using TorchSharp.Utils;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Looks tokens up in a table.</summary>
/// <remarks>
/// Not TorchSharp's <c>Embedding</c>: that draws its weights when it is made, and where it is made from a table it does not see what is written to its
/// parameter afterwards (0.107.0).
/// </remarks>
internal sealed class TokenEmbedding : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    public TokenEmbedding(int vocabulary, int width, ScalarType dtype)
        : base(nameof(TokenEmbedding))
    {
        _weight = Weights.Empty(dtype, vocabulary, width);
        RegisterComponents();
    }

    /// <summary>The table, shape <c>[vocabulary, width]</c>.</summary>
    public Parameter Table => _weight;

    /// <summary>Looks up.</summary>
    /// <param name="tokens">int64 of any shape.</param>
    /// <returns>The shape of <paramref name="tokens"/> and the width behind it.</returns>
    public override Tensor forward(Tensor tokens) => _weight.index_select(0, tokens.view(-1)).view([.. tokens.shape, _weight.size(1)]);
}
