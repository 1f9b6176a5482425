using static TorchSharp.torch;

namespace Llama.Tests;

public sealed class RequestParserTests
{
    [Test]
    public void Parse_ModelAlone_GivesTheDefaults() => Assert.That(Run() with { Text = new RunOptions("m").Text }, Is.EqualTo(new RunOptions("m")));

    [Test]
    public void Parse_EveryOptionOfARun_IsTaken()
    {
        RunOptions options = Run(
            "--adapter", "LoRA+", "--steps", "7", "--rank", "3", "--targets", "q_proj, v_proj", "--learning-rate", "0.5", "--context", "9", "--batch", "2",
            "--recompute", "--dtype", "bf16", "--prompt", "Once", "--max-new-tokens", "5", "--temperature", "0.7", "--top-k", "4", "--seed", "6",
            "--output", "o", "--threads", "1", "--text", "a", "b");

        Assert.Multiple(() =>
        {
            Assert.That(options.Text, Is.EqualTo(new[] { "a", "b" }));
            Assert.That(options.Targets, Is.EqualTo(new[] { "q_proj", "v_proj" }));
            Assert.That(options with { Text = [], Targets = [] }, Is.EqualTo(new RunOptions("m")
            {
                Targets = [],
                Seed = 6,
                Adapter = AdapterKind.LoraPlus,
                Steps = 7,
                Rank = 3,
                LearningRate = 0.5,
                Context = 9,
                Batch = 2,
                Recompute = true,
                DType = ScalarType.BFloat16,
                Prompt = "Once",
                Generation = new GenerationOptions { MaxNewTokens = 5, Temperature = 0.7, TopK = 4, Seed = 6 },
                Output = "o",
                Threads = 1,
            }));
        });
    }

    [Test]
    public void Parse_LoadAdapter_TrainsOnlyWhereAsked()
    {
        Assert.That(Run("--load-adapter", "a").Steps, Is.Zero);
        Assert.That(Run("--load-adapter", "a", "--steps", "3").Steps, Is.EqualTo(3));
    }

    [Test]
    public void Parse_MakeTiny_IsTaken()
    {
        TinyOptions options = (TinyOptions)Parse("--make-tiny", "t", "--family", "qwen3", "--shards", "2", "--seed", "4");

        Assert.That(options with { Text = [] }, Is.EqualTo(new TinyOptions("t") { Text = [], Family = ModelFamily.Qwen3, Shards = 2, Seed = 4 }));
    }

    [TestCase("--model", "m", "--steps", "-1")]
    [TestCase("--model", "m", "--steps", "many")]
    [TestCase("--model", "m", "--rank", "0")]
    [TestCase("--model", "m", "--context", "1")]
    [TestCase("--model", "m", "--batch", "0")]
    [TestCase("--model", "m", "--threads", "0")]
    [TestCase("--model", "m", "--learning-rate", "0")]
    [TestCase("--model", "m", "--learning-rate", "NaN")]
    [TestCase("--model", "m", "--dtype", "f64")]
    [TestCase("--model", "m", "--adapter", "adalora")]
    [TestCase("--model", "m", "--targets", ",")]
    [TestCase("--model", "m", "--prompt", "x", "--temperature", "-1")]
    [TestCase("--model", "m", "--prompt", "x", "--top-k", "-1")]
    [TestCase("--model", "m", "--prompt", "x", "--max-new-tokens", "0")]
    [TestCase("--model", "m", "--temperature", "1")]
    [TestCase("--model", "m", "--family", "llama")]
    [TestCase("--model", "m", "--shards", "2")]
    [TestCase("--model", "m", "--load-adapter", "a", "--rank", "4")]
    [TestCase("--model", "m", "--load-adapter", "a", "--adapter", "lora")]
    [TestCase("--model", "m", "--stepz", "4")]
    [TestCase("--make-tiny", "t", "--family", "gpt2")]
    [TestCase("--make-tiny", "t", "--shards", "0")]
    [TestCase("--make-tiny", "t", "--steps", "4")]
    [TestCase("--make-tiny", "t", "--model", "m")]
    public void Parse_WrongArgument_IsOneLineThatNamesIt(params string[] arguments)
    {
        var failure = Assert.Throws<UserException>(() => Parse(arguments));

        Assert.That(failure.Message, Does.Contain(arguments[^2]).And.Not.Contain('\n'));
    }

    [Test]
    public void Parse_Nothing_SaysWhatIsNeeded()
    {
        var failure = Assert.Throws<UserException>(() => Parse());

        Assert.That(failure.Message, Does.Contain("--model").And.Contain("--make-tiny"));
    }

    [Test]
    public void Parse_Help_ListsEveryOption()
    {
        using StringWriter output = new();

        Request? request = RequestParser.Parse(["--help"], output);

        Assert.That(request, Is.Null);
        string[] names =
        [
            "--model", "--adapter", "--load-adapter", "--steps", "--rank", "--targets", "--learning-rate", "--context", "--batch", "--recompute", "--dtype",
            "--prompt", "--max-new-tokens", "--temperature", "--top-k", "--output", "--threads", "--text", "--seed", "--make-tiny", "--family", "--shards",
        ];
        foreach (string name in names)
            Assert.That(output.ToString(), Does.Contain(name));
    }

    private static RunOptions Run(params string[] arguments) => (RunOptions)Parse(["--model", "m", .. arguments]);

    private static Request Parse(params string[] arguments) => RequestParser.Parse(arguments, TextWriter.Null)!;
}
