using TorchSharp;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>The autograd layer imports entry points that belong to one TorchSharp release.</summary>
public sealed class TorchSharpVersionTests
{
    [Test]
    public void TorchSharp_IsTheReleaseTheAutogradLayerWasWrittenFor()
    {
        Assert.That(typeof(torch).Assembly.GetName().Version?.ToString(2), Is.EqualTo("0.107"));
    }
}
