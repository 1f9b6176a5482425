using System.Text;

using Microsoft.ML.Tokenizers;

namespace Llama;

/// <summary>What defines a byte-level BPE tokenizer, wherever it was read from.</summary>
/// <param name="Place">Where it was read from, for messages.</param>
/// <param name="Vocabulary">Tokens, their bytes written as <see cref="ByteSymbols"/>, and their numbers.</param>
/// <param name="Merges">Pairs of tokens that become one, the earlier the sooner.</param>
/// <param name="Patterns">The expressions that cut text into pieces, see <see cref="PieceSplitter"/>.</param>
/// <param name="Added">Tokens that are matched as they stand.</param>
internal sealed record ByteLevelBpe(
    string Place,
    IReadOnlyDictionary<string, int> Vocabulary,
    IReadOnlyList<(string Left, string Right)> Merges,
    IReadOnlyList<string> Patterns,
    IReadOnlyList<AddedToken> Added)
{
    /// <summary>Whether text is brought to NFC first.</summary>
    public bool Normalizes { get; init; }

    /// <summary>Whether a piece that is a token becomes it even where merges would lead elsewhere.</summary>
    public bool WholePiecesFirst { get; init; }

    /// <summary>Makes the tokenizer.</summary>
    /// <exception cref="UserException">The parts do not fit together.</exception>
    public Tokenizer Create()
    {
        Check();
        Dictionary<string, int> added = [];
        foreach (AddedToken token in Added)
            added[token.Text] = token.Id;
        PieceSplitter splitter = Splitter();
        Normalizer? normalizer = Normalizes ? new CanonicalForm() : null;
        try
        {
            return WholePiecesFirst
                ? TiktokenTokenizer.Create(RankedBytes(added), splitter, normalizer, added)
                : BpeTokenizer.Create(new BpeOptions(Vocabulary)
                {
                    Merges = Merges.Select(merge => $"{merge.Left} {merge.Right}"),
                    ByteLevel = true,
                    PreTokenizer = splitter,
                    Normalizer = normalizer,
                    SpecialTokens = added,
                });
        }
        catch (Exception failure) when (failure is ArgumentException or InvalidOperationException or FormatException)
        {
            throw new UserException($"{Place} is no tokenizer that can be used: {failure.Message}", failure);
        }
    }

    private PieceSplitter Splitter()
    {
        try
        {
            return new PieceSplitter(Patterns, Added.Select(token => token.Text));
        }
        catch (ArgumentException failure)
        {
            throw new UserException($"{Place} cuts text by an expression that .NET cannot read: {failure.Message}", failure);
        }
    }

    private void Check()
    {
        for (int value = 0; value < 256; value++)
        {
            if (!Vocabulary.ContainsKey(ByteSymbols.Of((byte)value).ToString()))
                throw new UserException($"{Place}: the vocabulary lacks the byte {value}; expected a token for each of the 256, as in byte-level BPE");
        }

        foreach ((int index, (string left, string right)) in Merges.Index())
        {
            foreach (string token in (string[])[left, right, left + right])
            {
                if (!Vocabulary.ContainsKey(token))
                    throw new UserException($"{Place}: merge {index}, '{left} {right}', needs the token '{token}', which the vocabulary lacks");
            }
        }
    }

    /// <summary>
    /// The vocabulary as tiktoken writes it. That algorithm takes whole pieces first and otherwise merges the pair whose token has the lowest number, which
    /// is the first in the list of merges where the list is in the order of the numbers.
    /// </summary>
    private MemoryStream RankedBytes(Dictionary<string, int> added)
    {
        int last = -1;
        foreach ((int index, (string left, string right)) in Merges.Index())
        {
            int id = Vocabulary[left + right];
            if (id < last)
                throw new UserException($"{Place}: 'ignore_merges' is true and merge {index}, '{left} {right}', makes token {id} after {last}; expected merges in the order of their tokens");
            last = id;
        }

        StringBuilder lines = new();
        foreach ((string token, int id) in Vocabulary.Where(entry => !added.ContainsKey(entry.Key)))
        {
            byte[] bytes = ByteSymbols.BytesOf(token) ?? throw new UserException($"{Place}: the token '{token}' is not written in the symbols of bytes");
            lines.Append(Convert.ToBase64String(bytes)).Append(' ').Append(id).Append('\n');
        }

        return new MemoryStream(Encoding.ASCII.GetBytes(lines.ToString()));
    }
}
