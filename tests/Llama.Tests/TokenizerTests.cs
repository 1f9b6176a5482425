using System.Text;
using System.Text.Json.Nodes;

namespace Llama.Tests;

public sealed class TokenizerTests
{
    private const int Begin = TinyTokenizer.FirstAdded;
    private const int End = TinyTokenizer.FirstAdded + 1;

    private static readonly string[] Texts =
    [
        "hello world", " two  blanks\t\tand tabs\r\n\r\nlines ", "it's 12345.6 %", "Größe, naïve café, 中文 😀 ﬁn", "<|end_of_text|> inside", "\u0000\u0001", "",
    ];

    private TemporaryFolder _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [TestCase("llama")]
    [TestCase("qwen2")]
    [TestCase("qwen3")]
    public void Json_TextsOfAllKinds_ComeBack(string family)
    {
        TextTokenizer tokenizer = Tiny(family);
        bool begins = family == "llama";

        foreach (string text in Texts)
        {
            IReadOnlyList<int> tokens = tokenizer.Encode(text);
            Assert.That(tokens.Count > 0 && tokens[0] == Begin, Is.EqualTo(begins), text);
            Assert.That(tokenizer.Decode(tokens.Skip(begins ? 1 : 0)), Is.EqualTo(text));
        }
    }

    [Test]
    public void Json_AddedToken_IsOneToken() =>
        Assert.That(Tiny("qwen2").Encode("<|end_of_text|>"), Is.EqualTo(new[] { End }));

    [Test]
    public void Json_Merges_MakeFewerTokensThanBytes()
    {
        TextTokenizer tokenizer = Tiny("qwen2");

        Assert.That(tokenizer.Encode(TinyModel.Text), Has.Count.LessThan(TinyModel.Text.Length * 0.7));
    }

    [Test]
    public void Json_Qwen_BringsAccentsTogether()
    {
        TextTokenizer tokenizer = Tiny("qwen2");

        Assert.That(tokenizer.Encode("cafe\u0301"), Is.EqualTo(tokenizer.Encode("café")));
    }

    [Test]
    public void Json_MergesInAnyOrder_AreAppliedInTheListsOrder()
    {
        // "abc": a b is merged first although its token has the higher number.
        TextTokenizer tokenizer = Custom(json => Merges(json, ignoreMerges: false, ("b", "c", 256), ("a", "b", 257)), swap: true);

        Assert.That(tokenizer.Encode("abc"), Is.EqualTo(new[] { 257, 'c' }));
    }

    [Test]
    public void Json_WholePieces_AreTakenFirstWhereMergesAreIgnored()
    {
        // No merge leads from the bytes to "abc" in one go: a b first, and then nothing takes "ab" and "c" together.
        TextTokenizer merging = Custom(json => Whole(json, ignoreMerges: false));
        TextTokenizer whole = Custom(json => Whole(json, ignoreMerges: true));

        Assert.That(merging.Encode("abc"), Is.EqualTo(new[] { 256, 'c' }));
        Assert.That(whole.Encode("abc"), Is.EqualTo(new[] { 258 }));

        static void Whole(JsonObject json, bool ignoreMerges)
        {
            Merges(json, ignoreMerges, ("a", "b", 256), ("b", "c", 257));
            json["model"]!["vocab"]!["abc"] = 258;
        }
    }

    [Test]
    public void Json_MergesAsPairs_AreUnderstood()
    {
        TextTokenizer tokenizer = Custom(json =>
        {
            Merges(json, ignoreMerges: false, ("a", "b", 256));
            json["model"]!["merges"] = new JsonArray(new JsonArray("a", "b"));
        });

        Assert.That(tokenizer.Encode("ab"), Is.EqualTo(new[] { 256 }));
    }

    [Test]
    public void Json_EachDigitByItself_IsNotMerged()
    {
        TextTokenizer tokenizer = Custom(json =>
        {
            Merges(json, ignoreMerges: false, ("1", "2", 256));
            json["pre_tokenizer"] = JsonNode.Parse("""
                { "type": "Sequence", "pretokenizers": [ { "type": "Digits", "individual_digits": true }, { "type": "ByteLevel", "add_prefix_space": false, "use_regex": true } ] }
                """);
        });

        Assert.That(tokenizer.Encode("12"), Is.EqualTo(new[] { (int)'1', '2' }));
    }

    [Test]
    public void Splitter_Llama3_CutsAsItsExpressionSays() =>
        Assert.That(
            Pieces(SplitPattern.Llama3, "I'm  at 12345!\n\n x"),
            Is.EqualTo(new[] { "I", "'m", " ", " at", " ", "123", "45", "!\n\n", " x" }));

    [Test]
    public void Splitter_Qwen2_TakesEachDigit() =>
        Assert.That(Pieces(SplitPattern.Qwen2, "a 12"), Is.EqualTo(new[] { "a", " ", "1", "2" }));

    [Test]
    public void Splitter_Gpt2_TakesBlanksWithWords() =>
        Assert.That(Pieces(SplitPattern.Gpt2, "it's 12  b?"), Is.EqualTo(new[] { "it", "'s", " 12", " ", " b", "?" }));

    [Test]
    public void Splitter_TokensThatBeginAlike_TakesTheLonger() =>
        Assert.That(Pieces(SplitPattern.Gpt2, "<a><ab>x", "<a", "<a>", "<ab>"), Is.EqualTo(new[] { "<a>", "<ab>", "x" }));

    [Test]
    public void Splitter_WhatNothingMatches_IsAPiece() =>
        Assert.That(Pieces("[0-9]", "ab1cd"), Is.EqualTo(new[] { "ab", "1", "cd" }));

    [Test]
    public void ByteSymbols_Bytes_ComeBack()
    {
        string symbols = string.Concat(Enumerable.Range(0, 256).Select(value => ByteSymbols.Of((byte)value)));

        Assert.That(symbols.Distinct().Count(), Is.EqualTo(256));
        Assert.That(ByteSymbols.BytesOf(symbols), Is.EqualTo(Enumerable.Range(0, 256).Select(value => (byte)value)));
        Assert.That((ByteSymbols.Of((byte)' '), ByteSymbols.Of((byte)'\n'), ByteSymbols.Of((byte)'A')), Is.EqualTo(('Ġ', 'Ċ', 'A')));
        Assert.That(ByteSymbols.BytesOf(" "), Is.Null);
    }

    [Test]
    public void VocabularyAndMerges_AreWhatTokenizerJsonIs()
    {
        TextTokenizer fromJson = Tiny("qwen2");
        JsonObject json = ReadJson();
        string folder = Path.Combine(_folder.Path, "old");
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "vocab.json"), json["model"]!["vocab"]!.ToJsonString());
        File.WriteAllLines(Path.Combine(folder, "merges.txt"), ["#version: 0.2", .. json["model"]!["merges"]!.AsArray().Select(merge => merge!.GetValue<string>())]);
        File.WriteAllText(
            Path.Combine(folder, "tokenizer_config.json"),
            $$"""{ "added_tokens_decoder": { "{{End}}": { "content": "<|end_of_text|>", "special": true } } }""");

        TextTokenizer fromFiles = TokenizerFolder.Load(folder, ModelConfigReader.Read(_folder.Path));

        foreach (string text in Texts)
            Assert.That(fromFiles.Encode(text), Is.EqualTo(fromJson.Encode(text)), text);
    }

    [Test]
    public void VocabularyAndMerges_OlderListOfAddedTokens_IsTaken()
    {
        WriteOldFiles("a b");
        _folder.Write("added_tokens.json", """{ "<end>": 300 }""");

        TextTokenizer tokenizer = TokenizerFolder.Load(_folder.Path, ModelConfigReader.Read(_folder.Path));

        Assert.That(tokenizer.Encode("ab<end>c"), Is.EqualTo(new[] { 256, 300, 'c' }));
    }

    [Test]
    public void VocabularyAndMerges_LineThatIsNoPair_IsNamed()
    {
        WriteOldFiles("a b", "abc");

        Assert.That(LoadMessage(), Does.Contain("merges.txt").And.Contain("line 3").And.Contain("'abc'"));
    }

    [Test]
    public void VocabularyAndMerges_AddedTokenWithoutANumber_IsNamed()
    {
        WriteOldFiles("a b");
        _folder.Write("tokenizer_config.json", """{ "added_tokens_decoder": { "first": { "content": "<end>" } } }""");

        Assert.That(LoadMessage(), Does.Contain("tokenizer_config.json").And.Contain("first").And.Contain("number"));
    }

    [Test]
    public void SentencePiece_TextComesBackBehindTheBeginning()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        File.WriteAllBytes(Path.Combine(_folder.Path, "tokenizer.model"), SentencePieceModel());

        TextTokenizer tokenizer = TokenizerFolder.Load(_folder.Path, ModelConfigReader.Read(_folder.Path));
        IReadOnlyList<int> tokens = tokenizer.Encode("ab ab");

        Assert.That(tokens, Is.EqualTo(new[] { 1, 263, 263 }));
        Assert.That(tokenizer.Decode(tokens.Skip(1)).TrimStart(), Is.EqualTo("ab ab"));
    }

    [Test]
    public void SentencePiece_Damaged_NamesTheFile()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        string path = _folder.Write("tokenizer.model", "not a model");

        Assert.That(LoadMessage(), Does.Contain(path));
    }

    [Test]
    public void Load_NoTokenizer_SaysWhichFilesWereLookedFor()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);

        Assert.That(LoadMessage(), Does.Contain("tokenizer.json").And.Contain("tokenizer.model").And.Contain("vocab.json"));
    }

    [Test]
    public void Load_JsonOfAnotherKind_SaysSo()
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        _folder.Write("tokenizer.json", """{ "model": { "type": "Unigram" } }""");

        Assert.That(LoadMessage(), Does.Contain("tokenizer.json").And.Contain("byte-level BPE").And.Contain("tokenizer.model"));
    }

    [TestCase("normalizer", """{ "type": "Lowercase" }""", "Lowercase", "NFC")]
    [TestCase("post_processor", """{ "type": "BertProcessing" }""", "BertProcessing", "TemplateProcessing")]
    [TestCase("pre_tokenizer", """{ "type": "Sequence", "pretokenizers": [ { "type": "Whitespace" }, { "type": "ByteLevel", "add_prefix_space": false } ] }""", "Whitespace", "Split")]
    [TestCase("pre_tokenizer", """{ "type": "ByteLevel", "add_prefix_space": true }""", "add_prefix_space", "false")]
    [TestCase("pre_tokenizer", """{ "type": "Sequence", "pretokenizers": [ { "type": "Split", "pattern": { "Regex": "a" }, "behavior": "Removed", "invert": true }, { "type": "ByteLevel", "add_prefix_space": false } ] }""", "Removed", "Isolated")]
    [TestCase("pre_tokenizer", """{ "type": "Sequence", "pretokenizers": [ { "type": "Split", "pattern": { "Regex": "(" }, "behavior": "Isolated", "invert": false }, { "type": "ByteLevel", "add_prefix_space": false } ] }""", "expression", "'('")]
    [TestCase("added_tokens", """[ { "id": 1, "content": "x", "lstrip": true } ]""", "lstrip", "false")]
    [TestCase("added_tokens", """[ { "id": 1, "content": "" } ]""", "content", "not empty")]
    [TestCase("added_tokens", """[ { "content": "x" } ]""", "id", "lacks")]
    [TestCase("added_tokens", "[]", "post_processor", "<|begin_of_text|>")]
    public void Json_PartThatIsNotComputed_NamesGotAndExpected(string field, string value, string got, string expected)
    {
        TinyModel.WriteWithTokenizer(Path.Combine(_folder.Path, "model"), ModelFamily.Llama);
        string path = Path.Combine(_folder.Path, "model", TokenizerJson.FileName);
        JsonObject json = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        json[field] = JsonNode.Parse(value);
        File.WriteAllText(path, json.ToJsonString());

        string message = LoadMessage("model");

        Assert.That(message, Does.Contain(TokenizerJson.FileName).And.Contain(got).And.Contain(expected));
    }

    [Test]
    public void Json_MergeOfUnknownTokens_NamesIt()
    {
        string message = Assert.Throws<UserException>(() => Custom(json =>
        {
            Merges(json, ignoreMerges: false, ("a", "b", 256));
            json["model"]!["merges"] = new JsonArray("a b", "ab c");
        })).Message;

        Assert.That(message, Does.Contain("merge 1").And.Contain("'ab c'").And.Contain("'abc'"));
    }

    [Test]
    public void Json_VocabularyWithoutAByte_NamesIt()
    {
        string message = Assert.Throws<UserException>(() => Custom(json => json["model"]!["vocab"]!.AsObject().Remove("A"))).Message;

        Assert.That(message, Does.Contain("byte 65"));
    }

    [Test]
    public void Json_IgnoredMergesOutOfOrder_SaysSo()
    {
        string message = Assert.Throws<UserException>(() => Custom(json => Merges(json, ignoreMerges: true, ("b", "c", 257), ("a", "b", 256)))).Message;

        Assert.That(message, Does.Contain("ignore_merges").And.Contain("256 after 257"));
    }

    [Test]
    public void Encode_TokenThatTheModelLacks_SaysSo()
    {
        TinyModel.WriteWithTokenizer(Path.Combine(_folder.Path, "model"), ModelFamily.Llama);
        string folder = Path.Combine(_folder.Path, "model");
        TextTokenizer tokenizer = TokenizerFolder.Load(folder, ModelConfigReader.Read(folder) with { Vocabulary = 400 });

        Assert.That(Assert.Throws<UserException>(() => tokenizer.Encode("a")).Message, Does.Contain("510").And.Contain("400"));
    }

    [Test]
    public void Learn_TooLittleText_SaysHowMuchIsNeeded() =>
        Assert.That(Assert.Throws<UserException>(() => TinyTokenizer.Learn(ModelFamily.Llama, ["a few words"]))!.Message, Does.Contain("254").And.Contain("--text"));

    [Test]
    public void Learn_FrequentPairs_ComeFirst()
    {
        PieceSplitter splitter = new([SplitPattern.Gpt2], []);

        Assert.That(MergeLearner.Learn("aab aab aab cd", splitter, 3), Is.EqualTo(new[] { ("a", "a"), ("aa", "b"), ("Ġ", "aab") }));
    }

    private TextTokenizer Tiny(string family)
    {
        string folder = Path.Combine(_folder.Path, "tiny");
        TinyModel.WriteWithTokenizer(folder, ModelConfigReader.FamilyOf(family)!.Value);
        File.Copy(Path.Combine(folder, ModelConfigReader.FileName), Path.Combine(_folder.Path, ModelConfigReader.FileName));
        return TokenizerFolder.Load(folder, ModelConfigReader.Read(folder));
    }

    private JsonObject ReadJson() => JsonNode.Parse(File.ReadAllText(Path.Combine(_folder.Path, "tiny", TokenizerJson.FileName)))!.AsObject();

    /// <summary>A tokenizer whose vocabulary is the bytes and what the change adds.</summary>
    private TextTokenizer Custom(Action<JsonObject> change, bool swap = false)
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        JsonObject vocabulary = Bytes();
        JsonObject json = new()
        {
            ["pre_tokenizer"] = new JsonObject { ["type"] = "ByteLevel", ["add_prefix_space"] = false },
            ["model"] = new JsonObject { ["type"] = "BPE", ["vocab"] = vocabulary, ["merges"] = new JsonArray() },
        };
        change(json);
        if (swap)
        {
            JsonArray merges = json["model"]!["merges"]!.AsArray();
            json["model"]!["merges"] = new JsonArray([.. merges.Reverse().Select(merge => merge!.DeepClone())]);
        }

        _folder.Write(TokenizerJson.FileName, json.ToJsonString());
        return TokenizerFolder.Load(_folder.Path, ModelConfigReader.Read(_folder.Path));
    }

    private static JsonObject Bytes() =>
        new(Enumerable.Range(0, 256).Select(value => KeyValuePair.Create<string, JsonNode?>(ByteSymbols.Of((byte)value).ToString(), value)));

    private void WriteOldFiles(params string[] merges)
    {
        TinyModel.Write(_folder.Path, ModelFamily.Llama);
        JsonObject vocabulary = Bytes();
        vocabulary["ab"] = 256;
        _folder.Write("vocab.json", vocabulary.ToJsonString());
        _folder.Write("merges.txt", string.Join('\n', ["#version: 0.2", .. merges]));
    }

    private static void Merges(JsonObject json, bool ignoreMerges, params (string Left, string Right, int Id)[] merges)
    {
        JsonNode model = json["model"]!;
        foreach ((string left, string right, int id) in merges)
        {
            model["vocab"]![left + right] = id;
            model["merges"]!.AsArray().Add($"{left} {right}");
        }

        model["ignore_merges"] = ignoreMerges;
    }

    private static string[] Pieces(string pattern, string text, params string[] added) =>
        [.. new PieceSplitter([pattern], added).PreTokenize(text).Select(piece => text.Substring(piece.Offset, piece.Length))];

    private string LoadMessage(string below = "")
    {
        string folder = Path.Combine(_folder.Path, below);
        return Assert.Throws<UserException>(() => TokenizerFolder.Load(folder, ModelConfigReader.Read(folder))).Message;
    }

    /// <summary>A SentencePiece model in protobuf's form: the unknown, begin, end and 256 byte pieces, and a few of letters.</summary>
    private static byte[] SentencePieceModel()
    {
        List<byte> model = [];
        AddPiece("<unk>", 0, type: 2);
        AddPiece("<s>", 0, type: 3);
        AddPiece("</s>", 0, type: 3);
        for (int value = 0; value < 256; value++)
            AddPiece($"<0x{value:X2}>", 0, type: 6);
        foreach ((int rank, string text) in ((string[])["▁", "a", "b", "ab", "▁ab"]).Index())
            AddPiece(text, -5 + rank, type: 1);

        // trainer_spec: model_type BPE, byte_fallback, unk_id 0, bos_id 1, eos_id 2; normalizer_spec: dummy prefix, escaped blanks.
        AddMessage(2, [0x18, 2, .. Tag(35, 0), 1, .. Tag(40, 0), 0, .. Tag(41, 0), 1, .. Tag(42, 0), 2]);
        AddMessage(3, [0x18, 1, 0x20, 0, 0x28, 1]);
        return [.. model];

        void AddPiece(string text, float score, byte type)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            AddMessage(1, [0x0A, (byte)bytes.Length, .. bytes, 0x15, .. BitConverter.GetBytes(score), 0x18, type]);
        }

        void AddMessage(int field, byte[] content) => model.AddRange([.. Tag(field, 2), (byte)content.Length, .. content]);

        static byte[] Tag(int field, int wire)
        {
            int tag = (field << 3) | wire;
            return tag < 128 ? [(byte)tag] : [(byte)(tag | 0x80), (byte)(tag >> 7)];
        }
    }
}
