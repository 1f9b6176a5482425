namespace FineTune.Tests;

public sealed class OptionsParserTests
{
    [Test]
    public void Parse_Nothing_GivesTheDefaults()
    {
        Options defaults = new();
        Options options = Parse();

        // Lists are compared by reference in records, so they are compared on their own.
        Assert.Multiple(() =>
        {
            Assert.That(options with { Data = defaults.Data, Adapters = defaults.Adapters }, Is.EqualTo(defaults));
            Assert.That(options.Data, Is.Empty);
            Assert.That(options.Adapters, Is.EqualTo(defaults.Adapters));
        });
    }

    [Test]
    public void Parse_Quick_KeepsWhatIsAskedForExplicitly()
    {
        Options options = Parse("--quick", "--steps", "7");

        Assert.Multiple(() =>
        {
            Assert.That(options.Quick, Is.True);
            Assert.That(options.Steps, Is.EqualTo(7));
            Assert.That(options.Width, Is.EqualTo(Options.ForQuickRun.Width));
        });
    }

    [Test]
    public void Parse_SeveralSources_KeepsTheirOrder()
    {
        Options options = Parse("--data", "a=one", "b=two", "--data", "c=three=3");

        Assert.That(options.Data, Is.EqualTo(new DataSource[] { new("a", "one"), new("b", "two"), new("c", "three=3") }));
    }

    [Test]
    public void Parse_Adapters_KeepsTheirOrderAndDropsRepeats() =>
        Assert.That(Parse("--adapters", "comol, LoRA,comol").Adapters, Is.EqualTo(new[] { AdapterKind.CoMoL, AdapterKind.Lora }));

    [Test]
    public void Parse_AllAdapters_AreKnown()
    {
        string[] names = AdapterKinds.List.Split(", ");

        Assert.That(Parse("--adapter", string.Join(',', names)).Adapters, Is.EqualTo(Enum.GetValues<AdapterKind>()));
        Assert.That(names, Is.EqualTo(new[] { "lora", "rslora", "lora+", "dora", "pissa", "milora", "loha", "lokr", "smora", "comol" }));
    }

    [TestCase("--steps", "0")]
    [TestCase("--steps", "-3")]
    [TestCase("--steps", "many")]
    [TestCase("--steps")]
    [TestCase("--base-steps", "0")]
    [TestCase("--seed", "-1")]
    [TestCase("--width", "100")]
    [TestCase("--width", "0")]
    [TestCase("--layers", "0")]
    [TestCase("--context", "1")]
    [TestCase("--batch", "0")]
    [TestCase("--rank", "1")]
    [TestCase("--threads", "0")]
    [TestCase("--adapter", "adalora")]
    [TestCase("--adapter", ",")]
    [TestCase("--data", "nameless")]
    [TestCase("--data", "=path")]
    [TestCase("--data", "name=")]
    [TestCase("--data", "a=x", "--data", "A=y")]
    [TestCase("--stepz", "5")]
    [TestCase("leftover")]
    public void Parse_WrongArgument_IsOneLineThatNamesIt(params string[] arguments)
    {
        var failure = Assert.Throws<UserException>(() => Parse(arguments));

        Assert.Multiple(() =>
        {
            Assert.That(failure.Message, Does.Contain(arguments[0]));
            Assert.That(failure.Message, Does.Not.Contain('\n'));
        });
    }

    [Test]
    public void Parse_Help_ListsEveryOption()
    {
        using StringWriter output = new();

        Options? options = OptionsParser.Parse(["--help"], output);

        Assert.That(options, Is.Null);
        foreach (string name in new[] { "--data", "--out", "--adapter", "--quick", "--seed", "--base-steps", "--steps", "--width", "--layers", "--context", "--batch", "--rank", "--threads" })
            Assert.That(output.ToString(), Does.Contain(name));
    }

    private static Options Parse(params string[] arguments) => OptionsParser.Parse(arguments, TextWriter.Null)!;
}
