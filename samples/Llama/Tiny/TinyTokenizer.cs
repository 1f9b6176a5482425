using System.Text.Json.Nodes;

namespace Llama;

/// <summary>Writes a small byte-level BPE tokenizer in the form of tokenizer.json, as the family's real ones have it.</summary>
internal static class TinyTokenizer
{
    /// <summary>Tokens in all.</summary>
    public const int Vocabulary = 512;

    /// <summary>The token that begins a text; Qwen has none.</summary>
    public const string BeginToken = "<|begin_of_text|>";

    /// <summary>The token that ends a text.</summary>
    public const string EndToken = "<|end_of_text|>";

    /// <summary>The number of the first added token; the tokens of bytes and merges come before.</summary>
    public const int FirstAdded = Vocabulary - 2;

    /// <summary>More text would take longer and hardly change which pairs are frequent.</summary>
    private const int MostCharacters = 200_000;

    private const int Bytes = 256;

    /// <summary>Learns a tokenizer from text.</summary>
    /// <param name="family">Whose form it has.</param>
    /// <param name="texts">The text.</param>
    /// <exception cref="UserException">The text has too few different pairs of characters.</exception>
    public static JsonObject Learn(ModelFamily family, IReadOnlyList<string> texts)
    {
        string text = string.Join('\n', texts);
        string pattern = family == ModelFamily.Llama ? SplitPattern.Llama3 : SplitPattern.Qwen2;
        PieceSplitter splitter = new([pattern], []);
        var merges = MergeLearner.Learn(text[..Math.Min(text.Length, MostCharacters)], splitter, FirstAdded - Bytes);
        if (merges.Count < FirstAdded - Bytes)
            throw new UserException($"the text has only {merges.Count} pairs of characters to make tokens of; {FirstAdded - Bytes} are needed, so give more --text");

        JsonObject vocabulary = [];
        for (int value = 0; value < Bytes; value++)
            vocabulary.Add(ByteSymbols.Of((byte)value).ToString(), value);
        foreach ((int index, (string left, string right)) in merges.Index())
            vocabulary.Add(left + right, Bytes + index);

        return new JsonObject
        {
            ["version"] = "1.0",
            ["added_tokens"] = new JsonArray(Added(BeginToken, FirstAdded), Added(EndToken, FirstAdded + 1)),
            ["normalizer"] = family == ModelFamily.Llama ? null : new JsonObject { ["type"] = "NFC" },
            ["pre_tokenizer"] = new JsonObject
            {
                ["type"] = "Sequence",
                ["pretokenizers"] = new JsonArray(
                    new JsonObject
                    {
                        ["type"] = "Split",
                        ["pattern"] = new JsonObject { ["Regex"] = pattern },
                        ["behavior"] = "Isolated",
                        ["invert"] = false,
                    },
                    ByteLevel()),
            },
            ["post_processor"] = family == ModelFamily.Llama ? BeginWith(BeginToken, FirstAdded) : ByteLevel(),
            ["decoder"] = ByteLevel(),
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["ignore_merges"] = family == ModelFamily.Llama,
                ["vocab"] = vocabulary,
                ["merges"] = new JsonArray([.. merges.Select(merge => (JsonNode)$"{merge.Left} {merge.Right}")]),
            },
        };
    }

    private static JsonObject Added(string content, int id) => new()
    {
        ["id"] = id,
        ["content"] = content,
        ["single_word"] = false,
        ["lstrip"] = false,
        ["rstrip"] = false,
        ["normalized"] = false,
        ["special"] = true,
    };

    private static JsonObject ByteLevel() => new()
    {
        ["type"] = "ByteLevel",
        ["add_prefix_space"] = false,
        ["trim_offsets"] = true,
        ["use_regex"] = false,
    };

    private static JsonObject BeginWith(string token, int id) => new()
    {
        ["type"] = "TemplateProcessing",
        ["single"] = new JsonArray(Special(token), Sequence("A")),
        ["pair"] = new JsonArray(Special(token), Sequence("A"), Special(token), Sequence("B")),
        ["special_tokens"] = new JsonObject
        {
            [token] = new JsonObject { ["id"] = token, ["ids"] = new JsonArray(id), ["tokens"] = new JsonArray(token) },
        },
    };

    private static JsonObject Special(string token) => new() { ["SpecialToken"] = new JsonObject { ["id"] = token, ["type_id"] = 0 } };

    private static JsonObject Sequence(string name) => new() { ["Sequence"] = new JsonObject { ["id"] = name, ["type_id"] = 0 } };
}
