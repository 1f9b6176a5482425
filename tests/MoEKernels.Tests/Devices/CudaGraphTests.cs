namespace MoEKernels.Tests;

[Category(TestDevice.Gpu)]
public sealed class CudaGraphTests
{
    private CudaDevice _device = null!;

    [OneTimeSetUp]
    public void Open() => _device = TestDevice.OpenCuda();

    [OneTimeTearDown]
    public void Close() => _device?.Dispose();

    [Test]
    public void Launch_DoesWhatWasCapturedOnWhatIsThereNow()
    {
        using CudaStream stream = _device.CreateStream();
        using DeviceBuffer<int> source = _device.Allocate<int>([1, 2, 3]);
        using DeviceBuffer<int> destination = _device.Allocate<int>([0, 0, 0]);
        using CudaGraph graph = CudaGraph.Capture(stream, () =>
        {
            source.CopyToDevice(destination, stream: stream);
            source.Clear(stream);
        });
        Assert.That(graph.NodeCount, Is.EqualTo(2));
        Assert.That(graph.Context, Is.SameAs(_device.Context));
        Assert.That(destination.ToArray(stream), Is.All.Zero, "nothing runs before the launch");

        foreach (int[] values in (int[][])[[4, 5, 6], [7, 8, 9]])
        {
            source.CopyFrom(values, stream: stream);
            graph.Launch(stream);
            Assert.That(destination.ToArray(stream), Is.EqualTo(values));
            Assert.That(source.ToArray(stream), Is.All.Zero);
        }
    }

    [Test]
    public void Capture_OfAnOp_ReplaysIt()
    {
        const int Tokens = 3, Experts = 5, Kept = 2;
        GateShape shape = new(Tokens, Experts, Kept);
        using CudaStream stream = _device.CreateStream();
        using DeviceBuffer<float> logits = _device.Allocate<float>(Tokens * Experts);
        using DeviceBuffer<int> ids = _device.Allocate<int>(Tokens * Kept);
        using DeviceBuffer<float> weights = _device.Allocate<float>(Tokens * Kept);
        GateArgs args = new()
        {
            Shape = shape,
            Logits = logits.Address,
            Ids = ids.Address,
            Weights = weights.Address,
        };
        using DeviceBuffer<byte> workspace = _device.Allocate<byte>(Gate.ForwardWorkspace(_device.Context, args));
        logits.Clear(stream);
        Run();
        using CudaGraph graph = CudaGraph.Capture(stream, Run);

        for (int seed = 1; seed <= 3; seed++)
        {
            float[] values = TestData.To<float>(TestData.Uniform(seed, Tokens * Experts));
            int[] expectedIds = new int[Tokens * Kept];
            float[] expected = new float[Tokens * Kept];
            Gate.Forward(shape, default, values, expectedIds, expected);

            logits.CopyFrom(values, stream: stream);
            graph.Launch(stream);

            Assert.That(ids.ToArray(stream), Is.EqualTo(expectedIds));
            Assert.That(weights.ToArray(stream), Is.EqualTo(expected).Within(1e-6));
        }

        void Run() => Gate.Forward(_device.Context, args, workspace.Address, workspace.Length, stream.Handle);
    }

    [Test]
    public void Capture_WhoseWorkThrows_LeavesTheStreamUsable()
    {
        using CudaStream stream = _device.CreateStream();
        using DeviceBuffer<int> buffer = _device.Allocate<int>([1, 2]);

        Assert.That(() => CudaGraph.Capture(stream, () =>
        {
            buffer.Clear(stream);
            throw new InvalidOperationException("enough");
        }), Throws.InvalidOperationException.With.Message.EqualTo("enough"));

        Assert.That(buffer.ToArray(stream), Is.EqualTo(new[] { 1, 2 }), "what was captured has not run");
        buffer.Clear(stream);
        Assert.That(buffer.ToArray(stream), Is.All.Zero);
    }

    [Test]
    public void Capture_RefusesWhatWaits()
    {
        using CudaStream stream = _device.CreateStream();
        using DeviceBuffer<int> buffer = _device.Allocate<int>([1]);
        using CudaGraph other = CudaGraph.Capture(stream, () => { });
        using CudaGraph graph = CudaGraph.Capture(stream, () => Assert.Multiple(() =>
        {
            Assert.That(() => buffer.CopyFrom([2], stream: stream), Captured);
            Assert.That(() => buffer.ToArray(stream), Captured);
            Assert.That(stream.Synchronize, Captured);
            Assert.That(() => other.Launch(stream), Captured);
            Assert.That(() => CudaGraph.Capture(stream, () => { }), Captured);
        }));

        Assert.That(graph.NodeCount, Is.Zero);
    }

    [Test]
    public void Capture_OfTheDefaultStream_IsRefused()
    {
        using CudaStream stream = CudaStream.FromHandle(_device.Context);

        Assert.That(() => CudaGraph.Capture(stream, () => { }),
            Throws.ArgumentException.With.Message.Contains("the default stream cannot be captured"));
    }

    [Test]
    public void Launch_OnTheDefaultStreamOrOneOfAnotherDevice()
    {
        using CudaStream stream = _device.CreateStream();
        using CudaStream foreign = new(MoeContext.Default);
        using DeviceBuffer<int> buffer = _device.Allocate<int>([1]);
        using CudaGraph graph = CudaGraph.Capture(stream, () => buffer.Clear(stream));

        graph.Launch();
        Assert.That(buffer.ToArray(), Is.All.Zero);
        Assert.That(() => graph.Launch(foreign), Throws.ArgumentException.With.Message.Contains("stream: got one on"));
    }

    [Test]
    public void Disposed_Throws()
    {
        using CudaStream stream = _device.CreateStream();
        CudaGraph graph = CudaGraph.Capture(stream, () => { });
        graph.Dispose();
        graph.Dispose();

        Assert.That(() => graph.Launch(stream), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => graph.NodeCount, Throws.InstanceOf<ObjectDisposedException>());
    }

    private static NUnit.Framework.Constraints.IResolveConstraint Captured =>
        Throws.ArgumentException.With.Message.Contains("stream: got one that is being captured");
}
