using System.Text.Json;

namespace Llama;

/// <summary>Reads Hugging Face's tokenizer.json as far as Llama 3, Qwen and other byte-level BPE tokenizers go.</summary>
internal static class TokenizerJson
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "tokenizer.json";

    private const string TypeField = "type";
    private const string ByteLevel = "ByteLevel";

    /// <summary>Whether the file describes a byte-level BPE tokenizer; others are better read from other files.</summary>
    /// <param name="fields">The file.</param>
    public static bool IsByteLevel(JsonFields fields)
    {
        JsonFields? pre = fields.Object("pre_tokenizer");
        return fields.Object("model")?.Text(TypeField, "") == "BPE"
            && pre is not null
            && Flatten(pre, "pretokenizers").Any(part => part.Text(TypeField, "") == ByteLevel);
    }

    /// <summary>Reads the tokenizer.</summary>
    /// <param name="fields">The file.</param>
    /// <exception cref="UserException">A part is missing, wrong, or of a kind that is not computed here.</exception>
    public static ByteLevelBpe Read(JsonFields fields)
    {
        JsonFields model = fields.Object("model") ?? throw fields.Wrong("model", "an object");
        foreach (string prefix in (string[])["continuing_subword_prefix", "end_of_word_suffix"])
        {
            if (model.Text(prefix, "").Length > 0)
                throw model.Wrong(prefix, "none");
        }

        JsonFields vocabulary = model.Object("vocab") ?? throw model.Wrong("vocab", "an object");
        Dictionary<string, int> tokens = new(StringComparer.Ordinal);
        foreach (JsonProperty token in vocabulary.All)
            tokens[token.Name] = vocabulary.Integer(token.Name, 0);
        return new ByteLevelBpe(
            fields.Place,
            tokens,
            [.. model.Items("merges").Select((item, i) => ReadMerge(item) ?? throw model.Wrong("merges", $"pairs of tokens; number {i} is none"))],
            ReadPatterns(fields),
            [.. fields.Objects("added_tokens").Select(token => AddedToken.Read(token, token.Integer("id", 0)))])
        {
            Normalizes = ReadNormalizes(fields),
            WholePiecesFirst = model.Flag("ignore_merges", false),
        };
    }

    /// <summary>The tokens that are put before every text, as the post-processor says.</summary>
    /// <param name="fields">The file.</param>
    public static IReadOnlyList<string> ReadBeginning(JsonFields fields)
    {
        List<string> beginning = [];
        if (fields.Object("post_processor") is not { } processor)
            return beginning;
        foreach (JsonFields part in Flatten(processor, "processors"))
        {
            switch (part.Text(TypeField))
            {
                case ByteLevel:
                    break;
                case "TemplateProcessing":
                    foreach (JsonFields piece in part.Objects("single").TakeWhile(piece => !piece.Has("Sequence")))
                        beginning.Add((piece.Object("SpecialToken") ?? throw part.Wrong("single", "special tokens and a sequence")).Text("id"));
                    break;
                default:
                    throw part.Wrong(TypeField, $"\"{ByteLevel}\" or \"TemplateProcessing\"");
            }
        }

        return beginning;
    }

    /// <summary>Newer files write a merge as a list of two texts, older ones as one text with a blank between.</summary>
    private static (string Left, string Right)? ReadMerge(JsonElement item)
    {
        if (item.ValueKind == JsonValueKind.String)
            return SplitMerge(item.GetString()!);
        bool isPair = item.ValueKind == JsonValueKind.Array && item.GetArrayLength() == 2
            && item[0].ValueKind == JsonValueKind.String && item[1].ValueKind == JsonValueKind.String;
        return isPair ? (item[0].GetString()!, item[1].GetString()!) : null;
    }

    /// <summary>Splits a merge that is written with a blank between its parts; null: it is none.</summary>
    public static (string Left, string Right)? SplitMerge(string text)
    {
        string[] parts = text.Split(' ');
        return parts is [{ Length: > 0 } left, { Length: > 0 } right] ? (left, right) : null;
    }

    private static List<string> ReadPatterns(JsonFields fields)
    {
        JsonFields pre = fields.Object("pre_tokenizer") ?? throw fields.Wrong("pre_tokenizer", "an object");
        List<string> patterns = [];
        bool hasBytes = false;
        foreach (JsonFields part in Flatten(pre, "pretokenizers"))
        {
            switch (part.Text(TypeField))
            {
                case "Split":
                    if (part.Text("behavior") != "Isolated")
                        throw part.Wrong("behavior", "\"Isolated\"");
                    if (part.Flag("invert", false))
                        throw part.Wrong("invert", "false");
                    patterns.Add((part.Object("pattern") ?? throw part.Wrong("pattern", "an object")).Text("Regex"));
                    break;
                case "Digits":
                    patterns.Add(part.Flag("individual_digits", false) ? SplitPattern.EachDigit : SplitPattern.Digits);
                    break;
                case ByteLevel:
                    if (part.Flag("add_prefix_space", true))
                        throw part.Wrong("add_prefix_space", "false");
                    if (part.Flag("use_regex", true))
                        patterns.Add(SplitPattern.Gpt2);
                    hasBytes = true;
                    break;
                default:
                    throw part.Wrong(TypeField, $"\"Split\", \"Digits\" or \"{ByteLevel}\"");
            }
        }

        return hasBytes ? patterns : throw fields.Wrong("pre_tokenizer", $"a part of type \"{ByteLevel}\"");
    }

    private static bool ReadNormalizes(JsonFields fields)
    {
        if (fields.Object("normalizer") is not { } normalizer)
            return false;
        bool normalizes = false;
        foreach (JsonFields part in Flatten(normalizer, "normalizers"))
        {
            if (part.Text(TypeField) != "NFC")
                throw part.Wrong(TypeField, "\"NFC\"");
            normalizes = true;
        }

        return normalizes;
    }

    private static IEnumerable<JsonFields> Flatten(JsonFields part, string list) =>
        part.Text(TypeField, "") == "Sequence" ? part.Objects(list).SelectMany(inner => Flatten(inner, list)) : [part];
}
