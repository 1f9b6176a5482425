using TorchSharp.Modules;
using TorchSharp.Utils;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>A decoder-only transformer over bytes: no tokeniser, 256 symbols, the output layer tied to the embedding.</summary>
internal sealed class ByteTransformer : nn.Module<Tensor, Tensor>
{
    /// <summary>The number of symbols.</summary>
    public const int Symbols = 256;

    [ComponentName(Name = "embedding")]
    private readonly Embedding _embedding;

    [ComponentName(Name = "blocks")]
    private readonly ModuleList<Block> _blocks;

    [ComponentName(Name = "norm")]
    private readonly LayerNorm _norm;

    [ComponentName(Name = "cos")]
    private readonly Tensor _cos;

    [ComponentName(Name = "sin")]
    private readonly Tensor _sin;

    /// <summary>Makes a model with weights drawn from libtorch's generator; call <c>torch.manual_seed</c> first.</summary>
    /// <param name="width">The width of the residual stream.</param>
    /// <param name="layers">The number of blocks.</param>
    /// <param name="context">The longest sequence in bytes.</param>
    public ByteTransformer(int width, int layers, int context)
        : base(nameof(ByteTransformer))
    {
        int heads = width / Options.HeadWidth;
        _embedding = nn.Embedding(Symbols, width);
        _blocks = nn.ModuleList(Enumerable.Range(0, layers).Select(_ => new Block(width, heads)).ToArray());
        _norm = nn.LayerNorm(width);
        (_cos, _sin) = Rotary.Angles(context, Options.HeadWidth);
        _cos.DetachFromDisposeScope();
        _sin.DetachFromDisposeScope();
        RegisterComponents();
        InitialiseWeights(layers);
    }

    /// <summary>Scores the byte that follows each position.</summary>
    /// <param name="bytes">Values 0..255 as int64, shape <c>[batch, length]</c>.</param>
    /// <returns>Logits of shape <c>[batch, length, 256]</c>.</returns>
    public override Tensor forward(Tensor bytes)
    {
        long length = bytes.size(1);
        Tensor cos = _cos.narrow(0, 0, length);
        Tensor sin = _sin.narrow(0, 0, length);
        Tensor x = _embedding.call(bytes);
        foreach (Block block in _blocks)
            x = block.call(x, cos, sin);
        return nn.functional.linear(_norm.call(x), _embedding.weight!);
    }

    /// <summary>
    /// Normal with deviation 0.02, and smaller where a block writes to the residual stream, so that its variance does not grow with the
    /// depth (Radford et al. 2019).
    /// </summary>
    private void InitialiseWeights(int layers)
    {
        using var scope = NewDisposeScope();
        double residual = 0.02 / Math.Sqrt(2.0 * layers);
        foreach ((string name, Parameter weight) in named_parameters())
        {
            if (weight.dim() != 2)
                continue;
            bool writesToResidual = name.EndsWith("output.weight", StringComparison.Ordinal)
                || name.EndsWith("down.weight", StringComparison.Ordinal);
            nn.init.normal_(weight, 0, writesToResidual ? residual : 0.02);
        }
    }
}
