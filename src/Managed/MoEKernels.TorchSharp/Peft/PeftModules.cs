namespace MoEKernels.TorchSharp;

/// <summary>
/// Which modules PEFT means, the value of <c>target_modules</c> and <c>exclude_modules</c>: a list of names, each of which a path ends with at
/// a dot, or one regular expression for the whole path.
/// </summary>
public sealed class PeftModules
{
    private const string AllLinearText = "all-linear";

    private PeftModules(IReadOnlyList<string>? names, string? pattern)
    {
        Names = names;
        Pattern = pattern;
    }

    /// <summary>PEFT's "all-linear": every linear layer. PEFT itself leaves out the output layer, and saves the names it found instead of this word.</summary>
    public static PeftModules AllLinear { get; } = new(null, AllLinearText);

    /// <summary>The names; null when it is a regular expression.</summary>
    public IReadOnlyList<string>? Names { get; }

    /// <summary>The regular expression, in Python's notation; null when it is a list of names.</summary>
    public string? Pattern { get; }

    /// <summary>A list of names.</summary>
    /// <param name="names">The names; none is legal, and matches nothing.</param>
    /// <exception cref="ArgumentException">A name is empty.</exception>
    public static PeftModules FromNames(params IEnumerable<string> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        string[] list = [.. names];
        if (list.Any(string.IsNullOrEmpty))
            throw new ArgumentException("A name is empty.", nameof(names));
        return new PeftModules(list, null);
    }

    /// <summary>One regular expression for the whole path.</summary>
    /// <param name="pattern">The expression, in Python's notation.</param>
    /// <exception cref="ArgumentException">It is not a regular expression.</exception>
    public static PeftModules FromRegex(string pattern)
    {
        ArgumentException.ThrowIfNullOrEmpty(pattern);
        if (PythonRegex.Problem(pattern) is { } problem)
            throw new ArgumentException(problem, nameof(pattern));
        return new PeftModules(null, pattern);
    }

    /// <summary>Whether a path is meant.</summary>
    /// <param name="path">Path of a module, without <c>base_model.model.</c></param>
    public bool Matches(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (Pattern is not null)
            return IsAllLinear || PythonRegex.IsFullMatch(Pattern, path);
        return Names!.Any(name => path == name || path.EndsWith($".{name}", StringComparison.Ordinal));
    }

    /// <summary>The expression, or the names.</summary>
    public override string ToString() => Pattern ?? $"[{string.Join(", ", Names!)}]";

    internal bool IsAllLinear => string.Equals(Pattern, AllLinearText, StringComparison.OrdinalIgnoreCase);

    internal bool Contains(string path) => Names is not null && Names.Contains(path, StringComparer.Ordinal);
}
