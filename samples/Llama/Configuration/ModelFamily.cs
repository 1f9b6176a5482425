namespace Llama;

/// <summary>The kinds of decoder that the sample computes; config.json calls them <c>model_type</c>.</summary>
internal enum ModelFamily
{
    /// <summary>Llama 1 to 3 and what is built like them.</summary>
    Llama,

    /// <summary>Qwen 2 and 2.5: biases on the projections of queries, keys and values.</summary>
    Qwen2,

    /// <summary>Qwen 3: every head of queries and keys is normalised.</summary>
    Qwen3,
}
