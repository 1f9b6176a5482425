namespace Llama;

/// <summary>How a text is continued.</summary>
internal sealed record GenerationOptions
{
    /// <summary>The most tokens to add.</summary>
    public int MaxNewTokens { get; init; } = 64;

    /// <summary>Logits are divided by it before a token is drawn; 0: the likeliest token is taken.</summary>
    public double Temperature { get; init; }

    /// <summary>Only this many of the likeliest tokens can be drawn; 0: all can.</summary>
    public int TopK { get; init; }

    /// <summary>The seed of the draws.</summary>
    public int Seed { get; init; } = 1;
}
