using static TorchSharp.torch;

namespace Llama.Tests;

/// <summary>Tiny models gain nothing from threads, and lose much where other programs run beside the tests.</summary>
[SetUpFixture]
public sealed class OneThread
{
    [OneTimeSetUp]
    public void Limit() => set_num_threads(1);
}
