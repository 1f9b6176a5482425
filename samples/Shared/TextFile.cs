namespace Samples;

/// <summary>One file of a domain.</summary>
/// <param name="Name">The path relative to the domain's root with forward slashes, the same on every machine.</param>
/// <param name="Path">Where it lies.</param>
internal sealed record TextFile(string Name, string Path);
