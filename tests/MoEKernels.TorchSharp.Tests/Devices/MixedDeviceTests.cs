using TorchSharp;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Tensors on several devices, on one that nobody offers, and a CUDA device without its library.</summary>
public sealed class MixedDeviceTests
{
    private static readonly RankLoraOptions Smora = RankLoraOptions.Smora(alpha: 4, k: 2);

    // x, a, b, router, bias, routerInput, base; the meta device stands for another one on a machine that has but a CPU.
    private static readonly (int Which, string Name)[] RankLoraTensors = [(1, "a"), (2, "b"), (3, "router"), (4, "bias"), (5, "routerInput"), (6, "baseOutput")];

    [TestCaseSource(nameof(RankLoraTensors))]
    public void RankLora_OneTensorElsewhere_IsNamed((int Which, string Name) moved)
    {
        using var scope = NewDisposeScope();
        Tensor[] t = [ones(3, 5), ones(4, 5), ones(7, 4), ones(4, 5), zeros(4), ones(3, 5), zeros(3, 7)];
        t[moved.Which] = t[moved.Which].to(META);
        Assert.That(() => MoeFunctional.RankLora(t[0], t[1], t[2], t[3], 2, Smora, t[4], t[5], baseOutput: t[6]),
            Throws.ArgumentException.With.Message.Contains($"{moved.Name} is on meta; expected cpu"));
    }

    [TestCase(1, "a")]
    [TestCase(2, "b")]
    [TestCase(3, "cores")]
    [TestCase(4, "router")]
    [TestCase(5, "baseOutput")]
    public void CoreMerge_OneTensorElsewhere_IsNamed(int which, string name)
    {
        using var scope = NewDisposeScope();
        Tensor[] t = [ones(3, 5), ones(4, 5), ones(7, 4), ones(2, 4, 4), ones(2, 4), zeros(3, 7)];
        t[which] = t[which].to(META);
        Assert.That(() => MoeFunctional.CoreMerge(t[0], t[1], t[2], t[3], t[4], new CoreMergeOptions { Scale = 1 }, baseOutput: t[5]),
            Throws.ArgumentException.With.Message.Contains($"{name} is on meta; expected cpu"));
    }

    [Test]
    public void Gate_OneTensorElsewhere_IsNamed() => Assert.Multiple(() =>
    {
        using var scope = NewDisposeScope();
        var options = new GateOptions { BiasMode = BiasMode.Selection };
        Assert.That(() => MoeFunctional.Gate(ones(3, 4), 2, options, zeros(4, device: META)), Throws.ArgumentException.With.Message.Contains("bias is on meta; expected cpu"));
        Assert.That(() => MoeFunctional.UpdateGateBias(zeros(4), zeros(4, dtype: ScalarType.Int32, device: META), 1), Throws.ArgumentException.With.Message.Contains("counts is on meta; expected cpu"));
    });

    [Test]
    public void AllTensorsOnADeviceThatNobodyOffers_IsRefusedBeforeAutogradSeesIt()
    {
        using var scope = NewDisposeScope();
        Tensor logits = zeros(2, 3, device: META).requires_grad_();
        Assert.That(() => MoeFunctional.Gate(logits, 1), Throws.TypeOf<NotSupportedException>().With.Message.Contains("meta").And.Message.Contains("expected the CPU or a CUDA device"));
    }

    [Test]
    public void CudaWithoutALibrary_SaysWhatIsMissing()
    {
        if (MoeRuntime.DefaultBackend.Device == MoeDeviceType.Cuda)
            Assert.Ignore("The native library can use CUDA on this machine.");
        MoeBackendUnavailableException? first = Assert.Throws<MoeBackendUnavailableException>(() => MoeContexts.Cuda(0));
        Assert.That(first!.Message, Does.Contain("The tensors are on cuda:0").And.Contain("moekernels_cuda"));
        // A failure is not kept: the reason may be gone at the next call.
        Assert.That(Assert.Throws<MoeBackendUnavailableException>(() => MoeContexts.Cuda(0)), Is.Not.SameAs(first));
    }

    [Test]
    [Category(TestPlaces.Gpu)]
    public void CudaAndCpu_IsRefused()
    {
        TestPlaces.RequireGpus(1);
        using var scope = NewDisposeScope();
        Tensor[] t = [ones(3, 5), ones(4, 5), ones(7, 4), ones(4, 5), zeros(4)];
        Tensor Run() => MoeFunctional.RankLora(t[0], t[1], t[2], t[3], 2, Smora, t[4]).Output;
        t[1] = t[1].cuda();
        Assert.That(Run, Throws.ArgumentException.With.Message.Contains("a is on cuda:0; expected cpu"));
        t = [.. t.Select(tensor => tensor.cuda())];
        t[1] = t[1].cpu();
        Assert.That(Run, Throws.ArgumentException.With.Message.Contains("a is on cpu; expected cuda:0"));
    }

    [Test]
    [Category(TestPlaces.Gpu)]
    public void TwoGpus_EachHasItsContext_AndTheCurrentDeviceStays()
    {
        TestPlaces.RequireGpus(2);
        using var scope = NewDisposeScope();
        Tensor[] cpu = [randn(3, 5), randn(4, 5), randn(7, 4), randn(4, 5), zeros(4)];
        Tensor expected = MoeFunctional.RankLora(cpu[0], cpu[1], cpu[2], cpu[3], 2, Smora, cpu[4]).Output;
        foreach (int index in (int[])[1, 0, 1])
        {
            Tensor[] t = [.. cpu.Select(tensor => tensor.to(new Device(DeviceType.CUDA, index)))];
            Tensor y = MoeFunctional.RankLora(t[0], t[1], t[2], t[3], 2, Smora, t[4]).Output;
            TensorAssert.AreCloseToScale(y.cpu(), expected, 1e-5);
            Assert.That(y.device_index, Is.EqualTo(index));
            Assert.That(zeros(1, device: new Device(DeviceType.CUDA)).device_index, Is.Zero, "the current device");
            // On error, too.
            Assert.That(() => MoeFunctional.Gate(t[0].to(ScalarType.Float64), 1), Throws.TypeOf<MoeUnsupportedException>());
            Assert.That(zeros(1, device: new Device(DeviceType.CUDA)).device_index, Is.Zero, "the current device after an error");
            Assert.That(MoeContexts.For(t[0]).DeviceIndex, Is.EqualTo(index));
        }
        Assert.That(MoeContexts.Cuda(0), Is.Not.SameAs(MoeContexts.Cuda(1)));
    }

    [Test]
    [Category(TestPlaces.Gpu)]
    public void ManyThreads_FirstUse_MakesOneContext()
    {
        TestPlaces.RequireGpus(1);
        using var scope = NewDisposeScope();
        Tensor logits = randn(64, 16).cuda();
        var contexts = new MoeContext[8];
        Parallel.For(0, contexts.Length, i =>
        {
            using var inner = NewDisposeScope();
            MoeFunctional.Gate(logits, 2);
            contexts[i] = MoeContexts.For(logits);
        });
        Assert.That(contexts, Is.All.SameAs(contexts[0]));
    }
}
