using TorchSharp.Utils;

using static TorchSharp.torch;

namespace Llama;

/// <summary>Causal self-attention with rotary positions; several heads of queries share a head of keys and values.</summary>
internal sealed class Attention : nn.Module<Tensor, RotaryAngles, LayerCache?, Tensor>
{
    [ComponentName(Name = "q_proj")]
    private readonly nn.Module<Tensor, Tensor> _query;

    [ComponentName(Name = "k_proj")]
    private readonly nn.Module<Tensor, Tensor> _key;

    [ComponentName(Name = "v_proj")]
    private readonly nn.Module<Tensor, Tensor> _value;

    [ComponentName(Name = "o_proj")]
    private readonly nn.Module<Tensor, Tensor> _output;

    // Only of families that normalise heads.
    [ComponentName(Name = "q_norm")]
    private readonly RmsNorm? _queryNorm;

    [ComponentName(Name = "k_norm")]
    private readonly RmsNorm? _keyNorm;

    private readonly ModelConfig _config;

    public Attention(ModelConfig config, ScalarType dtype)
        : base(nameof(Attention))
    {
        _config = config;
        long queries = (long)config.Heads * config.HeadWidth;
        long keyValues = (long)config.KeyValueHeads * config.HeadWidth;
        _query = Weights.Linear(dtype, config.Width, queries, config.QueryKeyValueBias);
        _key = Weights.Linear(dtype, config.Width, keyValues, config.QueryKeyValueBias);
        _value = Weights.Linear(dtype, config.Width, keyValues, config.QueryKeyValueBias);
        _output = Weights.Linear(dtype, queries, config.Width, config.OutputBias);
        if (config.NormalizesHeads)
        {
            _queryNorm = new RmsNorm(config.HeadWidth, config.NormEpsilon, dtype);
            _keyNorm = new RmsNorm(config.HeadWidth, config.NormEpsilon, dtype);
        }

        RegisterComponents();
    }

    /// <summary>Mixes each position with those before it.</summary>
    /// <param name="x">Shape <c>[batch, positions, width]</c>.</param>
    /// <param name="angles">The angles of these positions.</param>
    /// <param name="cache">Earlier positions; these are put behind them. Null: there are none.</param>
    /// <returns>The shape of <paramref name="x"/>.</returns>
    public override Tensor forward(Tensor x, RotaryAngles angles, LayerCache? cache)
    {
        Tensor query = angles.Turn(Normalize(_queryNorm, SplitHeads(_query.call(x), _config.Heads)));
        Tensor key = angles.Turn(Normalize(_keyNorm, SplitHeads(_key.call(x), _config.KeyValueHeads)));
        Tensor value = SplitHeads(_value.call(x), _config.KeyValueHeads);

        long earlier = cache?.Length ?? 0;
        if (cache is not null)
            (key, value) = cache.Append(key, value);

        // A single position sees everything, and the first ones the triangle that libtorch knows by itself.
        long positions = x.size(1);
        Tensor? mask = earlier > 0 && positions > 1
            ? ones([positions, earlier + positions], ScalarType.Bool, x.device).tril(earlier)
            : null;
        int shared = _config.Heads / _config.KeyValueHeads;
        Tensor mixed = nn.functional.scaled_dot_product_attention(
            query,
            key.repeat_interleave(shared, dim: 1),
            value.repeat_interleave(shared, dim: 1),
            attn_mask: mask,
            p: training ? _config.AttentionDropout : 0,
            is_casual: earlier == 0 && positions > 1);
        return _output.call(mixed.transpose(1, 2).reshape(x.size(0), positions, _config.Heads * _config.HeadWidth));
    }

    private Tensor SplitHeads(Tensor x, int heads) => x.view(x.size(0), x.size(1), heads, _config.HeadWidth).transpose(1, 2);

    private static Tensor Normalize(RmsNorm? norm, Tensor x) => norm?.call(x) ?? x;
}
