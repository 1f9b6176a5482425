namespace FineTune.Tests;

public sealed class OutputFolderTests
{
    [Test]
    public void Open_FolderThatDoesNotExist_MakesItAndLeavesItEmpty()
    {
        using TemporaryFolder parent = new();

        OutputFolder folder = OutputFolder.Open(Path.Combine(parent.Path, "a", "b"));

        Assert.That(Directory.EnumerateFileSystemEntries(folder.Path), Is.Empty);
    }

    [Test]
    public void Open_PathBelowAFile_IsTheUsersError()
    {
        using TemporaryFolder parent = new();
        string file = parent.Write("file", "text");

        var failure = Assert.Throws<UserException>(() => OutputFolder.Open(Path.Combine(file, "out")));

        Assert.That(failure.Message, Does.Contain(file).And.Not.Contain('\n'));
    }

    [Test]
    public void Write_WriterFailsHalfWay_KeepsTheOldFileAndNothingElse()
    {
        using TemporaryFolder parent = new();
        string old = parent.Write("result.txt", "old");
        OutputFolder folder = OutputFolder.Open(parent.Path);

        Assert.Throws<OperationCanceledException>(() => folder.Write("result.txt", path =>
        {
            File.WriteAllText(path, "half");
            throw new OperationCanceledException();
        }));

        Assert.That(Directory.EnumerateFileSystemEntries(parent.Path), Is.EqualTo(new[] { old }));
        Assert.That(File.ReadAllText(old), Is.EqualTo("old"));
    }

    [Test]
    public void Write_FileThatExists_ReplacesIt()
    {
        using TemporaryFolder parent = new();
        string old = parent.Write("result.txt", "old");
        OutputFolder folder = OutputFolder.Open(parent.Path);

        folder.Write("result.txt", path => File.WriteAllText(path, "new"));

        Assert.That(File.ReadAllText(old), Is.EqualTo("new"));
        Assert.That(folder.Written, Is.EqualTo(new[] { old }));
    }
}
