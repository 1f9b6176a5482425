using TorchSharp.Utils;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>Causal multi-head self-attention with rotary positions.</summary>
/// <remarks>
/// The projections are fields of type <c>Module&lt;Tensor, Tensor&gt;</c> rather than <c>Linear</c>, so that an adapter can take
/// the place of a <c>Linear</c>.
/// </remarks>
internal sealed class Attention : nn.Module<Tensor, Tensor, Tensor, Tensor>
{
    [ComponentName(Name = "query")]
    private readonly nn.Module<Tensor, Tensor> _query;

    [ComponentName(Name = "key")]
    private readonly nn.Module<Tensor, Tensor> _key;

    [ComponentName(Name = "value")]
    private readonly nn.Module<Tensor, Tensor> _value;

    [ComponentName(Name = "output")]
    private readonly nn.Module<Tensor, Tensor> _output;

    private readonly int _heads;

    public Attention(int width, int heads)
        : base(nameof(Attention))
    {
        _heads = heads;
        _query = nn.Linear(width, width, hasBias: false);
        _key = nn.Linear(width, width, hasBias: false);
        _value = nn.Linear(width, width, hasBias: false);
        _output = nn.Linear(width, width, hasBias: false);
        RegisterComponents();
    }

    /// <summary>Mixes each position with those before it.</summary>
    /// <param name="x">Shape <c>[batch, length, width]</c>.</param>
    /// <param name="cos">The cosines of <see cref="Rotary.Angles"/>.</param>
    /// <param name="sin">The sines of <see cref="Rotary.Angles"/>.</param>
    /// <returns>The shape of <paramref name="x"/>.</returns>
    public override Tensor forward(Tensor x, Tensor cos, Tensor sin)
    {
        Tensor query = Rotary.Apply(SplitHeads(_query.call(x)), cos, sin);
        Tensor key = Rotary.Apply(SplitHeads(_key.call(x)), cos, sin);
        Tensor value = SplitHeads(_value.call(x));
        Tensor mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_casual: true);
        return _output.call(mixed.transpose(1, 2).reshape(x.size(0), x.size(1), x.size(2)));
    }

    private Tensor SplitHeads(Tensor x) =>
        x.view(x.size(0), x.size(1), _heads, x.size(2) / _heads).transpose(1, 2);
}
