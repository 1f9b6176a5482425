namespace Llama;

/// <summary>What the command line asks for.</summary>
internal abstract record Request
{
    /// <summary>Files and folders of text; empty: this repository's own files.</summary>
    public IReadOnlyList<string> Text { get; init; } = [];

    /// <summary>The seed of everything that is drawn.</summary>
    public int Seed { get; init; } = 1;
}
