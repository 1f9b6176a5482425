using System.Text;

using Microsoft.ML.Tokenizers;

namespace Llama;

/// <summary>Learns the merges of a byte-level BPE from text: again and again the pair of tokens that is there most often becomes a token.</summary>
internal static class MergeLearner
{
    /// <summary>Learns merges.</summary>
    /// <param name="text">The text.</param>
    /// <param name="splitter">Cuts it into pieces that merges stay within.</param>
    /// <param name="count">The most merges to learn; fewer where the text has no pair left.</param>
    /// <returns>The merges, in order, in the symbols of bytes.</returns>
    public static IReadOnlyList<(string Left, string Right)> Learn(string text, PreTokenizer splitter, int count)
    {
        Dictionary<string, int> pieces = new(StringComparer.Ordinal);
        foreach ((int offset, int length) in splitter.PreTokenize(text))
        {
            string piece = string.Concat(Encoding.UTF8.GetBytes(text, offset, length).Select(ByteSymbols.Of));
            pieces[piece] = pieces.GetValueOrDefault(piece) + 1;
        }

        List<(string[] Tokens, int Times)> words = [.. pieces.Select(piece => (piece.Key.Select(symbol => symbol.ToString()).ToArray(), piece.Value))];
        HashSet<string> known = new(StringComparer.Ordinal);
        List<(string, string)> merges = [];
        while (merges.Count < count && MostFrequentPair(words, known) is { } pair)
        {
            merges.Add(pair);
            known.Add(pair.Left + pair.Right);
            for (int i = 0; i < words.Count; i++)
                words[i] = (Merge(words[i].Tokens, pair), words[i].Times);
        }

        return merges;
    }

    /// <summary>Of pairs that are equally frequent the first in ordinal order, so that the result does not depend on anything else.</summary>
    private static (string Left, string Right)? MostFrequentPair(List<(string[] Tokens, int Times)> words, HashSet<string> known)
    {
        Dictionary<(string Left, string Right), int> counts = [];
        foreach ((string[] tokens, int times) in words)
        {
            for (int i = 0; i + 1 < tokens.Length; i++)
            {
                (string, string) pair = (tokens[i], tokens[i + 1]);
                counts[pair] = counts.GetValueOrDefault(pair) + times;
            }
        }

        // Two pairs can make the same token; a vocabulary has it once.
        var candidates = counts.Where(entry => !known.Contains(entry.Key.Left + entry.Key.Right)).ToList();
        return candidates.Count == 0
            ? null
            : candidates
                .OrderByDescending(entry => entry.Value)
                .ThenBy(entry => entry.Key.Left, StringComparer.Ordinal)
                .ThenBy(entry => entry.Key.Right, StringComparer.Ordinal)
                .First().Key;
    }

    private static string[] Merge(string[] tokens, (string Left, string Right) pair)
    {
        List<string> merged = [];
        for (int i = 0; i < tokens.Length; i++)
        {
            bool isPair = i + 1 < tokens.Length && tokens[i] == pair.Left && tokens[i + 1] == pair.Right;
            merged.Add(isPair ? tokens[i] + tokens[++i] : tokens[i]);
        }

        return [.. merged];
    }
}
