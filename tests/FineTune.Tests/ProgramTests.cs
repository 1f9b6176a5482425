using System.Text.Json;

namespace FineTune.Tests;

/// <summary>The program as its users meet it.</summary>
public sealed class ProgramTests
{
    private static readonly TestedProgram Program = new(typeof(Options).Assembly.Location);

    private static readonly string[] Tiny =
    [
        "--width", "32", "--layers", "1", "--context", "32", "--batch", "2", "--rank", "4", "--steps", "3", "--threads", "1",
    ];

    private static readonly string[] TinyAndShort = [.. Tiny, "--base-steps", "4"];

    private TemporaryFolder _folder = null!;

    private string Out => Path.Combine(_folder.Path, "out");

    [SetUp]
    public void MakeFolder() => _folder = new TemporaryFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [Test]
    public void Run_OwnText_WritesEverything()
    {
        (int exitCode, string output, string errors) = Program.Run([.. TinyAndShort, "--quick", "--out", Out, .. OwnText()]);

        Assert.That(exitCode, Is.Zero, errors);
        Assert.That(
            Directory.EnumerateFiles(Out).Select(Path.GetFileName),
            Is.EquivalentTo(new[] { "comol.safetensors", "lora.safetensors", "losses.png", "results.json", "routing.png", "smora.safetensors" }));
        foreach (string file in Directory.EnumerateFiles(Out))
            Assert.That(output, Does.Contain(file));
        using JsonDocument results = JsonDocument.Parse(File.ReadAllText(Path.Combine(Out, "results.json")));
        JsonElement adapters = results.RootElement.GetProperty("adapters");
        Assert.That(adapters.GetArrayLength(), Is.EqualTo(3));
        foreach (JsonElement adapter in adapters.EnumerateArray())
            Assert.That(adapter.GetProperty("reloadIsIdentical").GetBoolean(), Is.True);
    }

    [Test]
    public void Run_EveryAdapter_IsComparedInOneTable()
    {
        (int exitCode, string output, string errors) = Program.Run(
            [.. TinyAndShort, "--quick", "--adapter", "lora,rslora,lora+,dora,pissa,milora,loha,lokr,smora,comol", "--out", Out, .. OwnText()]);

        Assert.That(exitCode, Is.Zero, errors + output);
        foreach (string name in new[] { "LoRA r", "rsLoRA r", "LoRA+ r", "DoRA r", "PiSSA r", "MiLoRA r", "LoHa r", "LoKr r", "SMoRA 1 of 4", "CoMoL 4" })
            Assert.That(output, Does.Contain(name));
        Assert.That(Directory.EnumerateFiles(Out, "*.safetensors").Count(), Is.EqualTo(10));
    }

    [Test]
    public void Run_Twice_GivesTheSameLosses()
    {
        string[] arguments = [.. TinyAndShort, "--quick", "--adapters", "smora", "--seed", "5", .. OwnText()];
        string second = Path.Combine(_folder.Path, "second");

        Assert.That(Program.Run([.. arguments, "--out", Out]).ExitCode, Is.Zero);
        Assert.That(Program.Run([.. arguments, "--out", second]).ExitCode, Is.Zero);

        Assert.That(Losses(second), Is.EqualTo(Losses(Out)));

        static string Losses(string folder)
        {
            using JsonDocument results = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "results.json")));
            JsonElement adapter = results.RootElement.GetProperty("adapters")[0];
            return adapter.GetProperty("history").GetProperty("batches").GetRawText() + adapter.GetProperty("heldOutAfter").GetRawText();
        }
    }

    [Test]
    public void Run_PathThatDoesNotExist_IsOneLineAndNoTraining() =>
        AssertWrongUse("does not exist", "--data", $"a={Path.Combine(_folder.Path, "nothing")}");

    [Test]
    public void Run_EmptyFile_IsOneLineAndNoTraining() =>
        AssertWrongUse("is empty", "--data", $"a={_folder.Write("empty.txt", "")}");

    [Test]
    public void Run_TooLittleText_IsOneLineAndNoTraining() =>
        AssertWrongUse("too little text", "--data", $"a={_folder.Write("short.txt", "A few words.")}");

    [Test]
    public void Run_UnknownOption_IsOneLineAndNoTraining() => AssertWrongUse("--stepz", "--stepz", "3");

    [Test]
    public void Run_OutputFolderIsAFile_IsOneLineAndNoTraining() =>
        AssertWrongUse("cannot write", [.. OwnText(), "--out", _folder.Write("file", "text")]);

    [Test]
    public void Run_Interrupted_EndsSoonAndLeavesNoHalfWrittenFile()
    {
        (int exitCode, string errors) = Program.Interrupt("pre-train", [.. Tiny, "--base-steps", "1000000", "--out", Out, .. OwnText()]);

        Assert.That(exitCode, Is.EqualTo(130), errors);
        Assert.That(Directory.EnumerateFileSystemEntries(Out), Is.Empty);
    }

    private void AssertWrongUse(string message, params string[] arguments)
    {
        string[] all = arguments.Contains("--out") ? arguments : [.. arguments, "--out", Out];
        (int exitCode, string output, string errors) = Program.Run([.. TinyAndShort, .. all]);

        Assert.Multiple(() =>
        {
            Assert.That(exitCode, Is.EqualTo(2));
            Assert.That(errors.TrimEnd(), Does.StartWith("error: ").And.Contain(message).And.Not.Contain('\n'));
            Assert.That(output, Does.Not.Contain("pre-train"));
        });
    }

    private string[] OwnText()
    {
        foreach (int i in Enumerable.Range(0, 12))
        {
            _folder.Write($"text/letters/{i}.txt", string.Concat(Enumerable.Repeat($"abc{i} ", 60)));
            _folder.Write($"text/digits/{i}.txt", string.Concat(Enumerable.Repeat($"12{i}4 ", 60)));
        }

        return ["--data", $"letters={_folder.Path}/text/letters", $"digits={_folder.Path}/text/digits"];
    }
}
