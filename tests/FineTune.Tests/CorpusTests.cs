using System.Text;

namespace FineTune.Tests;

public sealed class CorpusTests
{
    private const int Context = 16;

    [Test]
    public void Split_SeveralFiles_HoldsOutWholeFiles()
    {
        var files = Enumerable.Range(0, 40).Select(i => File($"f{i}", 200)).ToList();

        Domain domain = Corpus.Split("text", files, Context);

        Assert.Multiple(() =>
        {
            Assert.That(domain.HeldOutFiles.Concat(domain.TrainingFiles), Is.EquivalentTo(files.Select(file => file.Name)));
            Assert.That(domain.HeldOutFiles, Has.Count.InRange(4, 8));
            Assert.That(domain.HeldOut, Has.Length.EqualTo(201 * domain.HeldOutFiles.Count));
            Assert.That(domain.Training, Has.Length.EqualTo(201 * domain.TrainingFiles.Count));
        });
        foreach (string name in domain.HeldOutFiles)
        {
            byte[] text = files.Single(file => file.Name == name).Text;
            Assert.That(domain.Training.AsSpan().IndexOf(text), Is.Negative, $"{name} is held out but trained on");
        }
    }

    [Test]
    public void Split_FilesInAnotherOrder_HoldsOutTheSame()
    {
        var files = Enumerable.Range(0, 40).Select(i => File($"f{i}", 200)).ToList();

        Domain one = Corpus.Split("text", files, Context);
        Domain other = Corpus.Split("text", [.. Enumerable.Reverse(files)], Context);

        Assert.That(other.HeldOutFiles, Is.EquivalentTo(one.HeldOutFiles));
    }

    [Test]
    public void Split_OneFile_HoldsOutItsEnd()
    {
        (string name, byte[] text) = File("only", 2000);

        Domain domain = Corpus.Split("text", [(name, text)], Context);

        Assert.Multiple(() =>
        {
            Assert.That(domain.HeldOutFiles, Is.Empty);
            Assert.That(domain.HeldOut, Has.Length.EqualTo(201));
            Assert.That(domain.Training.Concat(domain.HeldOut).SkipLast(1), Is.EqualTo(text));
        });
    }

    [Test]
    public void Split_OneFileMuchLargerThanTheRest_DoesNotHoldItOut()
    {
        Domain domain = Corpus.Split("text", [File("large", 5000), File("small", 300), File("tiny", 250)], Context);

        Assert.That(domain.HeldOutFiles, Does.Not.Contain("large"));
    }

    [Test]
    public void Split_TooLittleText_SaysHowMuchIsNeeded()
    {
        var failure = Assert.Throws<UserException>(() => Corpus.Split("poems", [File("short", 100)], Context));

        Assert.That(failure.Message, Does.Contain("'poems'").And.Contain("257"));
    }

    [Test]
    public void Load_FolderWithBuildOutputs_ReadsWhatPeopleWrote()
    {
        using TemporaryFolder folder = new();
        foreach (int i in Enumerable.Range(0, 20))
            folder.Write($"src/f{i}.txt", new string('a', 500));
        folder.Write("bin/output.txt", new string('b', 500));
        folder.Write("src/obj/output.txt", new string('b', 500));
        folder.Write(".cache/output.txt", new string('b', 500));
        folder.Write("image.txt", new string('\0', 500));

        Domain domain = Corpus.Load(new Options { Context = Context, Data = [new DataSource("text", folder.Path)] }).Single();

        Assert.That(domain.TrainingFiles.Concat(domain.HeldOutFiles).ToList(), Has.Count.EqualTo(20).And.All.StartsWith("src/f"));
    }

    [Test]
    public void Find_ThisRepository_HasHandWrittenFilesOfEveryDomain()
    {
        var domains = RepositoryFiles.Find("--data");

        Assert.That(domains.Select(domain => domain.Domain), Is.EqualTo(new[] { "C#", "C++/CUDA", "Markdown" }));
        foreach ((string domain, IReadOnlyList<TextFile> files) in domains)
        {
            Assert.That(files, Is.Not.Empty, domain);
            Assert.That(files.Select(file => file.Name), Has.None.Contains(".g.").And.None.Contains("/obj/"), domain);
        }
    }

    private static (string Name, byte[] Text) File(string name, int length) =>
        (name, Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat($"<{name}>", (length / name.Length) + 1))[..length]));
}
