namespace Llama.Tests;

/// <summary>The program as its users meet it.</summary>
public sealed class ProgramTests
{
    private static readonly TestedProgram Program = new(typeof(RunOptions).Assembly.Location);

    private TemporaryFolder _folder = null!;
    private string _text = null!;

    private string Model => Path.Combine(_folder.Path, "model");

    private string Out => Path.Combine(_folder.Path, "out");

    [SetUp]
    public void MakeFolder()
    {
        _folder = new TemporaryFolder();
        _text = _folder.Write("text.txt", TinyModel.Text);
    }

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [Test]
    public void Run_TinyModel_IsMadeTrainedSavedAndLoaded()
    {
        UnicodeTables.Require();
        Succeed("--make-tiny", Model, "--family", "qwen3", "--shards", "2", "--text", _text);
        Assert.That(
            Directory.EnumerateFiles(Model).Select(Path.GetFileName),
            Is.SupersetOf(new[] { "config.json", "tokenizer.json", "model.safetensors.index.json" }));

        string trained = Succeed(
            "--model", Model, "--adapter", "lora", "--steps", "12", "--learning-rate", "0.01", "--context", "32", "--text", _text, "--recompute", "--threads", "1",
            "--prompt", "ban", "--max-new-tokens", "5", "--output", Out);
        Assert.That(trained, Does.Contain("model: qwen3").And.Contain("adapter: lora").And.Contain("loss, nats per token").And.Contain("12/12"));
        Assert.That(trained, Does.Contain("continuation, 5 tokens"));
        foreach (string file in (string[])["adapter_config.json", "adapter_model.safetensors"])
            Assert.That(trained, Does.Contain(Path.Combine(Out, file)));
        double[] perplexities = [.. Line(trained, "held-out perplexity").Split(' ').Select(word => double.TryParse(word, out double number) ? number : 0).Where(number => number > 0)];
        Assert.That(perplexities, Has.Length.EqualTo(2));
        Assert.That(perplexities[1], Is.LessThan(perplexities[0]));

        string loaded = Succeed("--model", Model, "--load-adapter", Out, "--prompt", "ban", "--max-new-tokens", "5", "--threads", "1");
        Assert.That(loaded, Does.Contain("loaded from").And.Not.Contain("train  "));
        Assert.That(AfterLine(loaded, "continuation"), Is.EqualTo(AfterLine(trained, "continuation")));
    }

    [Test]
    public void Run_NoSteps_WritesWithTheModelAlone()
    {
        TinyModel.WriteWithTokenizer(Model, ModelFamily.Llama);

        string output = Succeed("--model", Model, "--steps", "0", "--prompt", "ban", "--max-new-tokens", "4", "--dtype", "bf16", "--threads", "1", "--output", Out);

        Assert.That(output, Does.Contain("bf16").And.Contain("continuation, 4 tokens").And.Not.Contain("adapter"));
        Assert.That(Directory.Exists(Out), Is.False);
    }

    [Test]
    public void Run_ModelThatIsNotThere_IsOneLine() => Fail(Model, "--model", Model);

    [Test]
    public void Run_UnknownOption_IsOneLine() => Fail("--stepz", "--model", Model, "--stepz", "3");

    [Test]
    public void MakeTiny_FolderInUse_IsOneLineAndLeavesItAlone()
    {
        Fail("not empty", "--make-tiny", _folder.Path, "--text", _text);

        Assert.That(Directory.EnumerateFileSystemEntries(_folder.Path), Is.EqualTo(new[] { _text }));
    }

    [Test]
    public void Run_TooLittleText_IsOneLineAndNoTraining()
    {
        TinyModel.WriteWithTokenizer(Model, ModelFamily.Llama);

        Fail("at least", "--model", Model, "--text", _folder.Write("short.txt", "A few words."));
    }

    [Test]
    public void Run_LayersThatTheModelLacks_IsOneLine()
    {
        TinyModel.WriteWithTokenizer(Model, ModelFamily.Llama);

        Fail("query_key_value", "--model", Model, "--targets", "query_key_value", "--text", _text);
    }

    [Test]
    public void Run_Interrupted_EndsSoonAndSavesNothing()
    {
        TinyModel.WriteWithTokenizer(Model, ModelFamily.Llama);

        (int exitCode, string errors) = Program.Interrupt(
            "adapter", "--model", Model, "--steps", "1000000", "--context", "16", "--text", _text, "--threads", "1", "--output", Out);

        Assert.That(exitCode, Is.EqualTo(130), errors);
        Assert.That(Directory.Exists(Out), Is.False);
    }

    private static string Succeed(params string[] arguments)
    {
        (int exitCode, string output, string errors) = Program.Run(arguments);
        Assert.That(exitCode, Is.Zero, errors);
        Assert.That(errors, Is.Empty);
        return output;
    }

    private static void Fail(string message, params string[] arguments)
    {
        (int exitCode, string output, string errors) = Program.Run(arguments);
        Assert.Multiple(() =>
        {
            Assert.That(exitCode, Is.EqualTo(2));
            Assert.That(errors.TrimEnd(), Does.StartWith("error: ").And.Contain(message).And.Not.Contain('\n'));
            Assert.That(output, Does.Not.Contain("train  "));
        });
    }

    private static string Line(string output, string start) => output.Split('\n').Single(line => line.StartsWith(start, StringComparison.Ordinal));

    private static string AfterLine(string output, string start) => output[output.IndexOf(start, StringComparison.Ordinal)..];
}
