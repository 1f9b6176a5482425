namespace Llama;

/// <summary>What a decoder computes: its sizes, and where the families differ.</summary>
internal sealed record ModelConfig
{
    /// <summary>The family.</summary>
    public required ModelFamily Family { get; init; }

    /// <summary>Tokens that the model knows. config.json: <c>vocab_size</c>.</summary>
    public required int Vocabulary { get; init; }

    /// <summary>The width of the residual stream. config.json: <c>hidden_size</c>.</summary>
    public required int Width { get; init; }

    /// <summary>The width inside the feed-forward half. config.json: <c>intermediate_size</c>.</summary>
    public required int FeedForwardWidth { get; init; }

    /// <summary>Blocks. config.json: <c>num_hidden_layers</c>.</summary>
    public required int Layers { get; init; }

    /// <summary>Heads of queries. config.json: <c>num_attention_heads</c>.</summary>
    public required int Heads { get; init; }

    /// <summary>Heads of keys and values, a divisor of <see cref="Heads"/>. config.json: <c>num_key_value_heads</c>.</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>The width of a head, even. config.json: <c>head_dim</c>.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>Added to the mean square under the root. config.json: <c>rms_norm_eps</c>.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>The base of the rotary frequencies. config.json: <c>rope_theta</c>.</summary>
    public required double RotaryBase { get; init; }

    /// <summary>How the rotary frequencies are stretched; null: not.</summary>
    public RotaryScaling? RotaryScaling { get; init; }

    /// <summary>The longest sequence. config.json: <c>max_position_embeddings</c>.</summary>
    public required int MaxPositions { get; init; }

    /// <summary>Whether the output layer is the embedding's table. config.json: <c>tie_word_embeddings</c>.</summary>
    public required bool TiedEmbeddings { get; init; }

    /// <summary>Whether the projections to queries, keys and values have biases.</summary>
    public required bool QueryKeyValueBias { get; init; }

    /// <summary>Whether the projection out of the attention has one.</summary>
    public required bool OutputBias { get; init; }

    /// <summary>Whether the feed-forward projections have biases. config.json: <c>mlp_bias</c>.</summary>
    public required bool FeedForwardBias { get; init; }

    /// <summary>Probability that an attention weight is dropped in training. config.json: <c>attention_dropout</c>.</summary>
    public double AttentionDropout { get; init; }

    /// <summary>The tokens that end a text; empty: none is known. config.json and generation_config.json: <c>eos_token_id</c>.</summary>
    public IReadOnlyList<int> EndTokens { get; init; } = [];

    /// <summary>Whether every head of queries and keys is normalised before its positions are put in.</summary>
    public bool NormalizesHeads => Family == ModelFamily.Qwen3;
}
