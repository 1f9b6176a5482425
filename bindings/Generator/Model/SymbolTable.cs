namespace MoEKernels.BindingsGenerator.Model;

/// <summary>Finds the C# member that a C name in a comment means.</summary>
internal sealed class SymbolTable
{
    private readonly Dictionary<string, string?> _references = new(StringComparer.Ordinal);

    /// <summary>Adds a C name; <paramref name="reference"/> is null when C# has no counterpart (a typedef).</summary>
    internal void Add(string nativeName, string? reference) => _references.TryAdd(nativeName, reference);

    /// <summary>Whether the header declares the name, and if so what to refer to.</summary>
    internal bool TryResolve(string nativeName, out string? reference) =>
        _references.TryGetValue(nativeName, out reference);
}
