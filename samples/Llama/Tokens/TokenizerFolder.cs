using System.Globalization;
using System.Text.Json;

using Microsoft.ML.Tokenizers;

namespace Llama;

/// <summary>
/// Finds a model folder's tokenizer: tokenizer.json where it is byte-level BPE (Llama 3, Qwen), tokenizer.model (SentencePiece, Llama 1 and 2), or vocab.json
/// with merges.txt (Qwen 2, GPT-2).
/// </summary>
internal static class TokenizerFolder
{
    private const string SentencePieceFileName = "tokenizer.model";
    private const string VocabularyFileName = "vocab.json";
    private const string MergesFileName = "merges.txt";
    private const string SettingsFileName = "tokenizer_config.json";
    private const string AddedFileName = "added_tokens.json";

    /// <summary>Loads the tokenizer.</summary>
    /// <param name="folder">The model folder.</param>
    /// <param name="config">The model.</param>
    /// <exception cref="UserException">There is none that can be read, or a file is damaged.</exception>
    public static TextTokenizer Load(string folder, ModelConfig config)
    {
        JsonFields? json = JsonFile.ReadIfThere(Path.Combine(folder, TokenizerJson.FileName));
        if (json is not null && TokenizerJson.IsByteLevel(json))
            return FromJson(json, config);

        string sentencePiece = Path.Combine(folder, SentencePieceFileName);
        if (File.Exists(sentencePiece))
            return FromSentencePiece(folder, sentencePiece, config);

        string vocabulary = Path.Combine(folder, VocabularyFileName);
        string merges = Path.Combine(folder, MergesFileName);
        if (File.Exists(vocabulary) && File.Exists(merges))
            return FromVocabulary(folder, vocabulary, merges, config);

        throw new UserException(json is null
            ? $"'{folder}' has no tokenizer: none of {TokenizerJson.FileName}, {SentencePieceFileName}, {VocabularyFileName} with {MergesFileName}"
            : $"{json.Place} is not byte-level BPE, the one kind that is read from such a file, and '{folder}' has no {SentencePieceFileName}");
    }

    private static TextTokenizer FromJson(JsonFields json, ModelConfig config)
    {
        ByteLevelBpe bpe = TokenizerJson.Read(json);
        List<int> beginning = [];
        foreach (string token in TokenizerJson.ReadBeginning(json))
        {
            beginning.Add(bpe.Added.FirstOrDefault(added => added.Text == token)?.Id
                ?? throw new UserException($"{json.Place}: the post_processor puts '{token}' before texts, which is none of the added_tokens"));
        }

        return new TextTokenizer(bpe.Create(), beginning, config.Vocabulary);
    }

    private static TextTokenizer FromVocabulary(string folder, string vocabularyPath, string mergesPath, ModelConfig config)
    {
        JsonFields fields = JsonFile.Read(vocabularyPath);
        Dictionary<string, int> vocabulary = new(StringComparer.Ordinal);
        foreach (JsonProperty token in fields.All)
            vocabulary[token.Name] = fields.Integer(token.Name, 0);

        List<(string, string)> merges = [];
        foreach ((int number, string line) in ReadLines(mergesPath).Index())
        {
            bool isComment = number == 0 && line.StartsWith("#version", StringComparison.Ordinal);
            if (!isComment && line.Length > 0)
                merges.Add(TokenizerJson.SplitMerge(line) ?? throw new UserException($"'{mergesPath}', line {number + 1}: '{line}' is not a pair of tokens"));
        }

        // These files do not say how text is cut; the model's family tells.
        bool isQwen = config.Family != ModelFamily.Llama;
        ByteLevelBpe bpe = new(fields.Place, vocabulary, merges, [isQwen ? SplitPattern.Qwen2 : SplitPattern.Gpt2], ReadAdded(folder))
        {
            Normalizes = isQwen,
        };
        return new TextTokenizer(bpe.Create(), [], config.Vocabulary);
    }

    private static TextTokenizer FromSentencePiece(string folder, string path, ModelConfig config)
    {
        JsonFields? settings = JsonFile.ReadIfThere(Path.Combine(folder, SettingsFileName));
        try
        {
            using FileStream stream = File.OpenRead(path);
            Dictionary<string, int> added = [];
            foreach (AddedToken token in ReadAdded(folder))
                added[token.Text] = token.Id;
            LlamaTokenizer tokenizer = LlamaTokenizer.Create(
                stream,
                addBeginOfSentence: settings?.Flag("add_bos_token", true) ?? true,
                addEndOfSentence: false,
                specialTokens: added);
            return new TextTokenizer(tokenizer, [], config.Vocabulary);
        }
        catch (Exception failure) when (failure is not UserException)
        {
            // The package lets its reader's own exceptions through, which are of many types.
            throw new UserException($"'{path}' is no SentencePiece model that can be used: {failure.Message}", failure);
        }
    }

    private static List<AddedToken> ReadAdded(string folder)
    {
        if (JsonFile.ReadIfThere(Path.Combine(folder, SettingsFileName))?.Object("added_tokens_decoder") is { } decoder)
        {
            List<AddedToken> tokens = [];
            foreach (JsonProperty entry in decoder.All)
            {
                if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id))
                    throw decoder.Wrong(entry.Name, "the number of a token as the field's name");
                tokens.Add(AddedToken.Read(decoder.Object(entry.Name)!, id));
            }

            return tokens;
        }

        JsonFields? plain = JsonFile.ReadIfThere(Path.Combine(folder, AddedFileName));
        return plain is null ? [] : [.. plain.All.Select(entry => new AddedToken(entry.Name, plain.Integer(entry.Name, 0)))];
    }

    private static string[] ReadLines(string path)
    {
        try
        {
            return File.ReadAllLines(path);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new UserException($"cannot read '{path}': {failure.Message}", failure);
        }
    }
}
