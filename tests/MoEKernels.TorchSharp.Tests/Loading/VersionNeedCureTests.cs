using MoEKernels.TorchSharp.Loading;

namespace MoEKernels.TorchSharp.Tests.Loading;

/// <summary>The cure edits an executable file's image, so it must change exactly one bit and survive any damaged input.</summary>
public sealed class VersionNeedCureTests
{
    private static readonly HashSet<string> OldRuntime = ["V_OLD"];
    private static readonly HashSet<string> NewRuntime = ["V_OLD", "V_NEW"];

    [Test]
    public void VersionNeeds_WellFormedLibrary_ListsThemWithTheirLibrary()
    {
        var needs = new ElfImage(ElfBuilder.Build(newSymbolIsUsed: false)).VersionNeeds();

        Assert.That(needs.Select(need => (need.Library, need.Name, need.Index)), Is.EqualTo(new[]
        {
            (ElfBuilder.Runtime, "V_OLD", (ushort)2),
            (ElfBuilder.Runtime, "V_NEW", (ushort)3),
        }));
    }

    [Test]
    public void VersionDefinitions_WellFormedLibrary_ListsItsOwn()
    {
        Assert.That(new ElfImage(ElfBuilder.Build(false)).VersionDefinitions(), Is.EquivalentTo(new[] { "OWN_1" }));
    }

    [Test]
    public void Apply_UnusedVersionIsMissing_SetsOneBit()
    {
        byte[] original = ElfBuilder.Build(newSymbolIsUsed: false);
        byte[] bytes = [.. original];

        var cured = VersionNeedCure.Apply(new ElfImage(bytes), ElfBuilder.Runtime, OldRuntime);

        Assert.That(cured, Is.EqualTo(new[] { "V_NEW" }));
        int[] changed = [.. Enumerable.Range(0, bytes.Length).Where(i => bytes[i] != original[i])];
        Assert.That(changed, Has.Length.EqualTo(1));
        Assert.That(bytes[changed[0]] ^ original[changed[0]], Is.EqualTo(2));
    }

    [Test]
    public void Apply_Twice_FindsNothingTheSecondTime()
    {
        byte[] bytes = ElfBuilder.Build(newSymbolIsUsed: false);
        VersionNeedCure.Apply(new ElfImage(bytes), ElfBuilder.Runtime, OldRuntime);
        byte[] once = [.. bytes];

        Assert.That(VersionNeedCure.Apply(new ElfImage(bytes), ElfBuilder.Runtime, OldRuntime), Is.Empty);
        Assert.That(bytes, Is.EqualTo(once));
    }

    [Test]
    public void Apply_RuntimeOffersEveryVersion_ChangesNothing()
    {
        byte[] original = ElfBuilder.Build(newSymbolIsUsed: true);
        byte[] bytes = [.. original];

        Assert.That(VersionNeedCure.Apply(new ElfImage(bytes), ElfBuilder.Runtime, NewRuntime), Is.Empty);
        Assert.That(bytes, Is.EqualTo(original));
    }

    [Test]
    public void Apply_MissingVersionOfAnotherLibrary_ChangesNothing()
    {
        byte[] original = ElfBuilder.Build(newSymbolIsUsed: false);
        byte[] bytes = [.. original];

        Assert.That(VersionNeedCure.Apply(new ElfImage(bytes), "libother.so.1", OldRuntime), Is.Empty);
        Assert.That(bytes, Is.EqualTo(original));
    }

    [Test]
    public void Apply_MissingVersionIsUsed_NamesTheSymbolAndChangesNothing()
    {
        byte[] original = ElfBuilder.Build(newSymbolIsUsed: true);
        byte[] bytes = [.. original];

        Assert.That(
            () => VersionNeedCure.Apply(new ElfImage(bytes), ElfBuilder.Runtime, OldRuntime),
            Throws.TypeOf<NotSupportedException>()
                .With.Message.Contains("V_NEW").And.Message.Contains("new_symbol").And.Message.Contains(ElfBuilder.Runtime));
        Assert.That(bytes, Is.EqualTo(original));
    }

    [Test]
    public void Constructor_NotAnElfFile_IsInvalidData([Values("", "MZ", "\u007fELF", "a text that is longer than the header of an ELF file would be")] string text)
    {
        Assert.That(() => new ElfImage(System.Text.Encoding.UTF8.GetBytes(text)), Throws.TypeOf<InvalidDataException>());
    }

    [Test]
    public void Apply_FileTruncatedAnywhere_IsInvalidData()
    {
        byte[] whole = ElfBuilder.Build(newSymbolIsUsed: true);

        Assert.Multiple(() =>
        {
            for (int length = 0; length < whole.Length; length++)
            {
                byte[] part = whole[..length];
                Assert.That(
                    () => VersionNeedCure.Apply(new ElfImage(part), ElfBuilder.Runtime, OldRuntime),
                    Throws.TypeOf<InvalidDataException>().Or.TypeOf<NotSupportedException>(), $"{length} bytes");
            }
        });
    }

    [Test]
    public void Apply_AnyByteDamaged_ThrowsNothingUnexpected()
    {
        byte[] whole = ElfBuilder.Build(newSymbolIsUsed: false);
        for (int position = 0; position < whole.Length; position++)
        {
            foreach (byte value in (byte[])[0x00, 0x01, 0x7f, 0x80, 0xff])
            {
                byte[] damaged = [.. whole];
                damaged[position] = value;
                try
                {
                    var image = new ElfImage(damaged);
                    VersionNeedCure.Apply(image, ElfBuilder.Runtime, OldRuntime);
                    image.VersionDefinitions();
                }
                catch (Exception exception) when (exception is InvalidDataException or NotSupportedException)
                {
                    // The only two answers to damage besides not noticing it.
                }
            }
        }
    }

    [Test]
    [Platform("Linux", Reason = "TorchSharp's Linux library is in the output folder on Linux only")]
    public void SymbolsInUse_OfTorchSharpsLibrary_TellsUsedVersionsFromUnusedOnes()
    {
        string path = LibraryFolders.Find(LibraryFolders.All(), "libLibTorchSharp.so")!;
        var image = new ElfImage(File.ReadAllBytes(path));
        var needs = image.VersionNeeds().Where(need => need.Library == "libstdc++.so.6").ToDictionary(need => need.Name);

        Assert.That(image.SymbolsInUse(needs["GLIBCXX_3.4.32"]), Is.Empty);
        Assert.That(image.SymbolsInUse(needs["GLIBCXX_3.4.21"]), Is.Not.Empty);
    }
}
