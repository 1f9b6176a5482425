using static TorchSharp.torch;

namespace Llama.Tests;

public sealed class GeneratorTests
{
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [TestCase("llama")]
    [TestCase("qwen2")]
    [TestCase("qwen3")]
    public void ScoreNext_TokenByToken_IsTheFullForward(string family)
    {
        using CausalModel model = Model(family);
        int[] tokens = TinyModel.Tokens(20);
        float[] full = TinyModel.Logits(model, tokens);

        Assert.That(Cached(model, tokens, pieces: [.. Enumerable.Repeat(1, 20)]), Is.EqualTo(full[^TinyTokenizer.Vocabulary..]).Within(2e-5));
    }

    [Test]
    public void ScoreNext_InPieces_IsTheFullForward()
    {
        using CausalModel model = Model("qwen3");
        int[] tokens = TinyModel.Tokens(20);
        float[] full = TinyModel.Logits(model, tokens);

        Assert.That(Cached(model, tokens, pieces: [7, 1, 5, 7]), Is.EqualTo(full[^TinyTokenizer.Vocabulary..]).Within(2e-5));
    }

    [Test]
    public void Continue_Greedy_IsTheLikeliestTokenOfEveryFullForward()
    {
        using CausalModel model = Model("llama");
        int[] prompt = TinyModel.Tokens(5);
        List<int> expected = [.. prompt];
        for (int i = 0; i < 12; i++)
        {
            float[] last = TinyModel.Logits(model, expected)[^TinyTokenizer.Vocabulary..];
            expected.Add(Array.IndexOf(last, last.Max()));
        }

        IReadOnlyList<int> got = Generator.Continue(model, prompt, new GenerationOptions { MaxNewTokens = 12 });

        Assert.That(got, Is.EqualTo(expected.Skip(5)));
    }

    [Test]
    public void Continue_SameSeed_DrawsTheSame()
    {
        using CausalModel model = Model("llama");
        int[] prompt = TinyModel.Tokens(5);
        GenerationOptions options = new() { MaxNewTokens = 30, Temperature = 1, TopK = 50 };

        IReadOnlyList<int> first = Generator.Continue(model, prompt, options);

        Assert.That(Generator.Continue(model, prompt, options), Is.EqualTo(first));
        Assert.That(Generator.Continue(model, prompt, options with { Seed = 2 }), Is.Not.EqualTo(first));
    }

    [Test]
    public void Continue_EndToken_StopsBeforeIt()
    {
        using CausalModel model = Model("llama");
        int[] prompt = TinyModel.Tokens(5);
        IReadOnlyList<int> all = Generator.Continue(model, prompt, new GenerationOptions { MaxNewTokens = 8 });
        int end = all.Last(token => token != all[0]);
        string config = Path.Combine(_folder.Path, ModelConfigReader.FileName);
        File.WriteAllText(config, File.ReadAllText(config).Replace($"\"eos_token_id\": {TinyTokenizer.FirstAdded + 1}", $"\"eos_token_id\": [9, {end}]", StringComparison.Ordinal));
        using CausalModel ending = CheckpointLoader.Load(_folder.Path, ScalarType.Float32);

        IReadOnlyList<int> got = Generator.Continue(ending, prompt, new GenerationOptions { MaxNewTokens = 8 });

        Assert.That(got, Is.EqualTo(all.TakeWhile(token => token != end)));
    }

    [Test]
    public void Continue_MoreThanTheModelHasPositions_SaysHowMany()
    {
        using CausalModel model = Model("llama");

        string message = Assert.Throws<UserException>(() => Generator.Continue(model, TinyModel.Tokens(1000), new GenerationOptions { MaxNewTokens = 25 })).Message;

        Assert.That(message, Does.Contain("1000").And.Contain("1025").And.Contain("1024"));
    }

    [Test]
    public void Continue_EmptyPrompt_SaysSo()
    {
        using CausalModel model = Model("llama");

        Assert.That(Assert.Throws<UserException>(() => Generator.Continue(model, [], new GenerationOptions())).Message, Does.Contain("prompt is empty"));
    }

    [Test]
    public void Continue_Cancelled_Stops()
    {
        using CausalModel model = Model("llama");

        Assert.Throws<OperationCanceledException>(() => Generator.Continue(model, TinyModel.Tokens(2), new GenerationOptions(), cancellation: new CancellationToken(canceled: true)));
    }

    [Test]
    public void Append_BeyondTheCapacity_SaysSo()
    {
        using CausalModel model = Model("llama");
        using KeyValueCache cache = model.NewCache(batch: 1, capacity: 3);
        using var scope = NewDisposeScope();
        using var noGradients = no_grad();

        Assert.That(() => model.ScoreNext(zeros([1, 4], ScalarType.Int64), cache), Throws.ArgumentException.With.Message.Contains("room for 3"));
    }

    [Test]
    public void Choose_Greedy_TakesTheFirstOfEqualScores() => Assert.That(new TokenSampler(new GenerationOptions()).Choose([1, 3, 3, float.NaN]), Is.EqualTo(1));

    [Test]
    public void Choose_TopOne_IsGreedy()
    {
        TokenSampler sampler = new(new GenerationOptions { Temperature = 5, TopK = 1 });

        Assert.That(Enumerable.Range(0, 20).Select(_ => sampler.Choose([0, 1, 0.9f])), Is.All.EqualTo(1));
    }

    [Test]
    public void Choose_Temperature_DrawsByTheSoftmax()
    {
        // e^(ln 3 / 0.5) = 9: nine of ten.
        TokenSampler sampler = new(new GenerationOptions { Temperature = 0.5 });
        const int draws = 20000;

        int first = Enumerable.Range(0, draws).Count(_ => sampler.Choose([MathF.Log(3), 0, float.NegativeInfinity]) == 0);

        Assert.That(first / (double)draws, Is.EqualTo(0.9).Within(0.01));
    }

    [Test]
    public void Choose_NoNumbers_SaysWhatToTry() =>
        Assert.That(Assert.Throws<UserException>(() => new TokenSampler(new GenerationOptions()).Choose([float.NaN, float.NaN]))!.Message, Does.Contain("--dtype"));

    private CausalModel Model(string family)
    {
        TinyModel.Write(_folder.Path, ModelConfigReader.FamilyOf(family)!.Value);
        return CheckpointLoader.Load(_folder.Path, ScalarType.Float32);
    }

    private static float[] Cached(CausalModel model, int[] tokens, int[] pieces)
    {
        using var scope = NewDisposeScope();
        using var noGradients = no_grad();
        using KeyValueCache cache = model.NewCache(batch: 1, tokens.Length);
        Tensor scores = empty(0);
        foreach (int piece in pieces)
        {
            long[] next = [.. tokens.Skip((int)cache.Length).Take(piece).Select(token => (long)token)];
            scores = model.ScoreNext(tensor(next, [1, next.Length]), cache);
        }

        Assert.That(cache.Length, Is.EqualTo(tokens.Length));
        return scores.data<float>().ToArray();
    }
}
