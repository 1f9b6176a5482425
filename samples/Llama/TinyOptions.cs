namespace Llama;

/// <summary>A tiny model to write.</summary>
/// <param name="Folder">Where to.</param>
internal sealed record TinyOptions(string Folder) : Request
{
    /// <summary>The family.</summary>
    public ModelFamily Family { get; init; }

    /// <summary>Files that the weights are distributed to, about.</summary>
    public int Shards { get; init; } = 1;
}
