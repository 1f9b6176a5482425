using MoEKernels.TorchSharp.Loading;
using TorchSharp;

namespace MoEKernels.TorchSharp.Tests.Loading;

/// <summary>The module initializer of this very assembly is what made torch loadable for these tests.</summary>
public sealed class TorchSharpLoaderTests
{
    [Test]
    public void Torch_AfterTheModuleInitializer_Computes()
    {
        using var scope = torch.NewDisposeScope();

        Assert.That(torch.ones(3).sum().item<float>(), Is.EqualTo(3f));
    }

    [Test]
    public void TryPrepare_CalledAgain_AddsNoStep()
    {
        Assert.That(TorchSharpLoader.LoadTrace, Is.Not.Empty, "the module initializer has run");
        var before = TorchSharpLoader.LoadTrace;

        Assert.That(TorchSharpLoader.TryPrepare(), Is.True);
        Assert.That(TorchSharpLoader.LoadTrace, Is.EqualTo(before));
    }

    [Test]
    public void EnsureLoaded_WhereTorchWorks_Returns() => Assert.That(TorchSharpLoader.EnsureLoaded, Throws.Nothing);

    [TestCase("0.107.0")]
    [TestCase("0.107.0.0")]
    [TestCase("0.107.3")]
    public void Check_SupportedRelease_Passes(string version)
        => Assert.That(() => SupportedTorchSharp.Check(Version.Parse(version)), Throws.Nothing);

    [TestCase("0.106.9")]
    [TestCase("0.108.0")]
    [TestCase("1.0.0")]
    [TestCase(null)]
    public void Check_AnotherRelease_NamesWhatIsSupportedAndWhatWasFound(string? version)
        => Assert.That(
            () => SupportedTorchSharp.Check(version is null ? null : Version.Parse(version)),
            Throws.TypeOf<NotSupportedException>()
                .With.Message.Contains("0.107.0").And.Message.Contains(version ?? "without a version"));
}
