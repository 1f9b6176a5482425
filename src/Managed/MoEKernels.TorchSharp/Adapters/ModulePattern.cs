using System.Text;
using System.Text.RegularExpressions;

namespace MoEKernels.TorchSharp;

/// <summary>
/// One entry of <see cref="AdapterConfig.TargetModules"/>: <c>all-linear</c>, the end of a path, a glob or a regular expression for the whole path.
/// </summary>
internal sealed class ModulePattern
{
    private const string RegexPrefix = "regex:";
    private const RegexOptions Options = RegexOptions.CultureInvariant | RegexOptions.NonBacktracking;

    private readonly string _text;
    private readonly Regex? _expression;

    /// <summary>Reads a pattern.</summary>
    /// <param name="text">The pattern.</param>
    /// <param name="argument">Name of the setting for error messages.</param>
    /// <exception cref="ArgumentException">It is empty, a glob without the end of a set, or no regular expression.</exception>
    public ModulePattern(string text, string argument = "pattern")
    {
        if (string.IsNullOrWhiteSpace(text))
            throw new ArgumentException($"{argument} has an empty pattern; expected a name, a glob, \"regex:\" and a regular expression, or \"all-linear\".", argument);
        _text = text;
        if (text.StartsWith(RegexPrefix, StringComparison.Ordinal))
            _expression = Parse(text[RegexPrefix.Length..], text, argument);
        else if (text.AsSpan().ContainsAny("*?["))
            _expression = Parse(FromGlob(text, argument), text, argument);
    }

    public bool Matches(string path)
    {
        if (_text == AdapterConfig.AllLinear)
            return true;
        if (_expression is not null)
            return _expression.IsMatch(path);
        return path.EndsWith(_text, StringComparison.Ordinal)
            && (path.Length == _text.Length || path[path.Length - _text.Length - 1] == '.');
    }

    public static bool AnyMatches(ModulePattern[] patterns, string path)
    {
        foreach (ModulePattern pattern in patterns)
        {
            if (pattern.Matches(path))
                return true;
        }
        return false;
    }

    private static Regex Parse(string expression, string text, string argument)
    {
        try
        {
            return new Regex($"^(?:{expression})$", Options);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            throw new ArgumentException($"{argument} has the pattern '{text}', which cannot be read: {e.Message}", argument, e);
        }
    }

    private static string FromGlob(string text, string argument)
    {
        var expression = new StringBuilder();
        for (int i = 0; i < text.Length; i++)
        {
            switch (text[i])
            {
                case '*':
                    expression.Append(".*");
                    break;
                case '?':
                    expression.Append('.');
                    break;
                case '[':
                    // A bracket right after the opening one belongs to the set.
                    int first = i + (i + 1 < text.Length && text[i + 1] == '!' ? 2 : 1);
                    int end = first < text.Length ? text.IndexOf(']', first + 1) : -1;
                    if (end < 0)
                        throw new ArgumentException($"{argument} has the pattern '{text}', whose set at {i} does not end; expected ']' after at least one character.", argument);
                    string set = text[first..end].Replace("\\", "\\\\", StringComparison.Ordinal).Replace("[", "\\[", StringComparison.Ordinal)
                        .Replace("]", "\\]", StringComparison.Ordinal).Replace("^", "\\^", StringComparison.Ordinal);
                    expression.Append('[').Append(first == i + 2 ? "^" : string.Empty).Append(set).Append(']');
                    i = end;
                    break;
                default:
                    expression.Append(Regex.Escape(text[i].ToString()));
                    break;
            }
        }
        return expression.ToString();
    }
}
