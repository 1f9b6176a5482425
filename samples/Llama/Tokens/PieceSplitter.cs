using System.Text.RegularExpressions;

using Microsoft.ML.Tokenizers;

namespace Llama;

/// <summary>
/// Cuts text into pieces as a sequence of Hugging Face's pre-tokenizers does: added tokens come out whole; the rest goes through one expression after the
/// other, and what an expression matches is a piece of its own, as is what lies between.
/// </summary>
internal sealed class PieceSplitter : PreTokenizer
{
    /// <summary>An expression comes from a file; one that takes longer than this for a match is not what a tokenizer needs.</summary>
    private static readonly TimeSpan LongestMatch = TimeSpan.FromSeconds(2);

    private readonly Regex? _added;
    private readonly Regex[] _stages;

    /// <summary>Makes a splitter.</summary>
    /// <param name="patterns">The expressions, in order.</param>
    /// <param name="added">Tokens that are matched as they stand.</param>
    /// <exception cref="ArgumentException">An expression is none.</exception>
    public PieceSplitter(IEnumerable<string> patterns, IEnumerable<string> added)
    {
        // The longest first: of two that begin alike it is the one that is meant.
        string[] tokens = [.. added.OrderByDescending(token => token.Length).Select(Regex.Escape)];
        _added = tokens.Length > 0 ? Compile(string.Join('|', tokens)) : null;
        _stages = [.. patterns.Select(Compile)];
    }

    /// <inheritdoc/>
    public override IEnumerable<(int Offset, int Length)> PreTokenize(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Split(text);
    }

    /// <inheritdoc/>
    public override IEnumerable<(int Offset, int Length)> PreTokenize(ReadOnlySpan<char> text) => Split(text);

    private static Regex Compile(string pattern) => new(pattern, RegexOptions.CultureInvariant | RegexOptions.Compiled, LongestMatch);

    private List<(int Offset, int Length)> Split(ReadOnlySpan<char> text)
    {
        List<(int Offset, int Length)> pieces = [];
        int done = 0;
        if (_added is not null)
        {
            foreach (ValueMatch match in _added.EnumerateMatches(text))
            {
                SplitRest(text, done, match.Index, pieces);
                pieces.Add((match.Index, match.Length));
                done = match.Index + match.Length;
            }
        }

        SplitRest(text, done, text.Length, pieces);
        return pieces;
    }

    private void SplitRest(ReadOnlySpan<char> text, int begin, int end, List<(int Offset, int Length)> pieces)
    {
        if (begin == end)
            return;
        List<(int Offset, int Length)> parts = [(begin, end - begin)];
        foreach (Regex stage in _stages)
        {
            List<(int Offset, int Length)> finer = [];
            foreach ((int offset, int length) in parts)
                Cut(stage, text.Slice(offset, length), offset, finer);
            parts = finer;
        }

        pieces.AddRange(parts);
    }

    private static void Cut(Regex stage, ReadOnlySpan<char> part, int offset, List<(int Offset, int Length)> pieces)
    {
        int done = 0;
        foreach (ValueMatch match in stage.EnumerateMatches(part))
        {
            if (match.Length == 0)
                continue;
            if (match.Index > done)
                pieces.Add((offset + done, match.Index - done));
            pieces.Add((offset + match.Index, match.Length));
            done = match.Index + match.Length;
        }

        if (part.Length > done)
            pieces.Add((offset + done, part.Length - done));
    }
}
