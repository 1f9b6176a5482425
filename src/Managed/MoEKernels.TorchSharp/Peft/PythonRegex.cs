using System.Collections.Concurrent;
using System.Text.RegularExpressions;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Regular expressions as PEFT's files hold them, written for Python's <c>re</c>. They come from somewhere else, so matching takes linear time
/// where .NET can do that (no look-around, no back-references), and at most a second where it cannot.
/// </summary>
internal static class PythonRegex
{
    private static readonly ConcurrentDictionary<string, Regex> Cache = new(StringComparer.Ordinal);

    /// <summary>Python's <c>re.fullmatch</c>.</summary>
    public static bool IsFullMatch(string pattern, string text) => Match($@"\A(?:{pattern})\z", pattern, text).Success;

    /// <summary>PEFT's rule for <c>rank_pattern</c>: the pattern matches the end of the path, from its start or from a dot.</summary>
    public static bool IsPathEnd(string pattern, string path) => Match($@"\A(?:.*\.)?(?:{pattern})$", pattern, path).Success;

    /// <summary>The index of the layer in a path: the number after <paramref name="pattern"/>, or after any segment when that is null.</summary>
    public static long? LayerIndex(string? pattern, string path)
    {
        string expression = pattern is null ? @"\A.*?\.[^.]*\.(?<peft_index>[0-9]+)\." : $@"\A.*?\.(?:{pattern})\.(?<peft_index>[0-9]+)\.";
        Match match = Match(expression, pattern ?? string.Empty, path);
        return match.Success && long.TryParse(match.Groups["peft_index"].ValueSpan, out long index) ? index : null;
    }

    /// <summary>What is wrong with a pattern; null: nothing.</summary>
    public static string? Problem(string pattern)
    {
        try
        {
            Get($@"\A(?:{pattern})\z", pattern);
            return null;
        }
        catch (ArgumentException e)
        {
            return e.Message;
        }
    }

    private static Match Match(string expression, string pattern, string text)
    {
        try
        {
            return Get(expression, pattern).Match(text);
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new InvalidDataException($"Matching '{pattern}' takes too long; write it without look-around and back-references.", e);
        }
    }

    private static Regex Get(string expression, string pattern)
    {
        if (Cache.TryGetValue(expression, out Regex? known))
            return known;
        // The one difference in notation that is met in practice.
        string translated = expression.Replace("(?P<", "(?<", StringComparison.Ordinal);
        Regex regex;
        try
        {
            regex = new Regex(translated, RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
        }
        catch (NotSupportedException)
        {
            regex = new Regex(translated, RegexOptions.CultureInvariant, TimeSpan.FromSeconds(1));
        }
        catch (ArgumentException e)
        {
            throw new ArgumentException($"'{pattern}' is not a regular expression: {e.Message}", e);
        }
        if (Cache.Count < 1000)
            Cache.TryAdd(expression, regex);
        return regex;
    }
}
