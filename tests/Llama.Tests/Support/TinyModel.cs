using System.Text.Json.Nodes;

using static TorchSharp.torch;

namespace Llama.Tests;

/// <summary>Tiny model folders for tests.</summary>
internal static class TinyModel
{
    /// <summary>Text with enough different words for a tiny tokenizer.</summary>
    public static readonly string Text = string.Join(' ', Enumerable.Range(0, 3000).Select(i => $"{Syllable(i)}{Syllable((i * 7) + 3)} {i},\n"[..^(i % 3)]));

    /// <summary>Writes config.json and weights.</summary>
    /// <param name="folder">Where to.</param>
    /// <param name="family">The family.</param>
    /// <param name="changes">Changes of the family's tiny configuration.</param>
    /// <param name="shards">Files of weights.</param>
    /// <param name="dtype">The type of the weights.</param>
    public static void Write(string folder, ModelFamily family, Action<JsonObject>? changes = null, int shards = 1, ScalarType dtype = ScalarType.Float32)
    {
        JsonObject config = TinyCheckpoint.Config(family);
        changes?.Invoke(config);
        TinyCheckpoint.WriteModel(folder, config, seed: 3, shards, dtype);
    }

    /// <summary>Writes a whole folder with a tokenizer.</summary>
    public static void WriteWithTokenizer(string folder, ModelFamily family)
    {
        if (family != ModelFamily.Llama)
            UnicodeTables.Require();
        string text = Path.Combine(Directory.CreateTempSubdirectory("moekernels-text-").FullName, "text.txt");
        File.WriteAllText(text, Text);
        TinyCheckpoint.Write(new TinyOptions(folder) { Family = family, Text = [text] });
        Directory.Delete(Path.GetDirectoryName(text)!, recursive: true);
    }

    /// <summary>Token numbers that look random and are the same every time.</summary>
    public static int[] Tokens(int count, int seed = 1)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(TinyTokenizer.Vocabulary))];
    }

    /// <summary>The logits of every position, one row after the other.</summary>
    public static float[] Logits(CausalModel model, IReadOnlyList<int> tokens)
    {
        using var scope = NewDisposeScope();
        using var noGradients = no_grad();
        Tensor input = tensor([.. tokens.Select(token => (long)token)], [1, tokens.Count]);
        return model.call(input).to(float32).data<float>().ToArray();
    }

    /// <summary>Blocks of random tokens.</summary>
    public static TokenBlocks Blocks(int context = 16) => TokenBlocks.Cut([Tokens(1000)], end: null, context);

    private static string Syllable(int i) => $"{"bdfgklmnprstvz"[i % 14]}{"aeiou"[i / 14 % 5]}{"nrslt"[i / 70 % 5]}";
}
