using MoEKernels.TorchSharp.Reference;
using TorchSharp;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Functions and modules where CUDA kernels do the work, against the twins in double precision on the CPU.</summary>
[TestFixture(TestPlace.Cpu)]
[TestFixture(TestPlace.EmulatedCuda, Category = TestPlaces.Gpu)]
[TestFixture(TestPlace.Cuda, Category = TestPlaces.Gpu)]
public sealed class DeviceTests(TestPlace place)
{
    private const long DIn = 24, DOut = 16, Rank = 8, Experts = 4, K = 3;

    // Of the largest value: products of rounded operands, sums in another order.
    private static readonly (ScalarType Type, ScalarType Weights, double Tolerance)[] Precisions =
    [
        (ScalarType.Float32, ScalarType.Float32, 1e-5),
        (ScalarType.BFloat16, ScalarType.BFloat16, 2e-2),
        (ScalarType.Float16, ScalarType.Float16, 3e-3),
        (ScalarType.BFloat16, ScalarType.Float32, 2e-2),
        (ScalarType.Float16, ScalarType.Float32, 3e-3),
    ];

    private Device _device = CPU;

    private static IEnumerable<AdapterConfig> Configurations() =>
    [
        new LoRAConfig { Rank = 4 },
        new SMoRAConfig { Rank = 8, ActiveRanks = 3 },
        new CoMoLConfig { Rank = 4, Experts = 3, Dropout = 0, CoreDropout = 0 },
        new CoMoLConfig { Rank = 4, Experts = 3, Router = CoreRouter.Input, Dropout = 0, CoreDropout = 0 },
    ];

    [OneTimeSetUp]
    public void Open() => _device = TestPlaces.Open(place);

    [OneTimeTearDown]
    public void Close() => TestPlaces.Close();

    [Test]
    public void Gate_EqualsTheTwin([Values(ScalarType.Float32, ScalarType.BFloat16, ScalarType.Float16)] ScalarType type, [Values(3, 8, 70)] int experts)
    {
        using var scope = NewDisposeScope();
        var options = new GateOptions { Normalize = GateNormalize.SumToOne, BiasMode = BiasMode.Selection, WeightScale = 2 };
        Tensor[] inputs = Make(type, [2, 5, experts]);
        Tensor bias = Values(ScalarType.Float32, experts).mul(0.1);
        Check([.. inputs], type == ScalarType.Float32 ? 1e-5 : 1e-2, ["logits"],
            t => MoeFunctional.Gate(t[0], K, options, bias.to(_device), withLogSumExp: true) is var gate ? [gate.Weights, gate.LogSumExp!] : [],
            t => ReferenceOps.Gate(t[0], K, options, bias.to(ScalarType.Float64), withLogSumExp: true) is var gate ? [gate.Weights, gate.LogSumExp!] : []);
    }

    [Test]
    public void RankLora_WithTheCallersGates_EqualsTheTwin([Range(0, 4)] int precision)
    {
        using var scope = NewDisposeScope();
        (ScalarType type, ScalarType weights, double tolerance) = Precisions[precision];
        // The selection is then the same in every precision.
        var options = new RankLoraOptions { Scale = 0.5, Gate = RankGate.Caller };
        Tensor ids = rand(9, Rank).argsort(-1).narrow(1, 0, K).to(ScalarType.Int32).contiguous();
        Tensor[] inputs = [.. Make(type, [9, DIn]), .. Make(weights, [Rank, DIn], [DOut, Rank]), .. Make(ScalarType.Float32, [9, K]), .. Make(type, [9, DOut])];
        Check(inputs, tolerance, ["x", "a", "b", "gates", "base"],
            t => [MoeFunctional.RankLora(t[0], t[1], t[2], null, K, options, ids: ids.to(_device), gates: t[3], baseOutput: t[4]).Output],
            t => [t[4] + ReferenceOps.RankLora(t[0], t[1], t[2], null, K, options, ids: ids.to(ScalarType.Int64), gates: t[3]).Output]);
    }

    [Test]
    public void RankLora_WithARouter_EqualsTheTwin([Values] bool withDropout)
    {
        using var scope = NewDisposeScope();
        RankLoraOptions options = RankLoraOptions.Smora(alpha: 4, k: (int)K) with { DropoutP = withDropout ? 0.3 : 0, DropoutSeed = 99, DropoutOffset = 4 };
        Tensor bias = Values(ScalarType.Float32, Rank).mul(0.05);
        Tensor? mask = withDropout ? MoeFunctional.DropoutMask(10, DIn, 0.3, 99, 4, dtype: ScalarType.Float32, device: _device).cpu().to(ScalarType.Float64) : null;
        Tensor[] inputs = Make(ScalarType.Float32, [2, 5, DIn], [Rank, DIn], [DOut, Rank], [Rank, DIn]);
        Check(inputs, 1e-5, ["x", "a", "b", "router"],
            t => [MoeFunctional.RankLora(t[0], t[1], t[2], t[3], K, options, bias.to(_device)).Output],
            t => [ReferenceOps.RankLora(t[0], t[1], t[2], t[3], K, options, bias.to(ScalarType.Float64), dropoutMask: mask).Output]);
    }

    [Test]
    public void CoreMerge_EqualsTheTwin([Range(0, 4)] int precision, [Values(CoreRouter.Core, CoreRouter.Input)] CoreRouter router)
    {
        using var scope = NewDisposeScope();
        (ScalarType type, ScalarType weights, double tolerance) = Precisions[precision];
        var options = new CoreMergeOptions { Scale = 0.5, Router = router };
        Tensor[] inputs =
        [
            .. Make(type, [3, 3, DIn]),
            .. Make(weights, [Rank, DIn], [DOut, Rank], [Experts, Rank, Rank], [Experts, router == CoreRouter.Core ? Rank : DIn]),
            .. Make(type, [3, 3, DOut]),
        ];
        Check(inputs, 2 * tolerance, ["x", "a", "b", "cores", "router", "base"],
            t => [MoeFunctional.CoreMerge(t[0], t[1], t[2], t[3], t[4], options, baseOutput: t[5]).Output],
            t => [t[5] + ReferenceOps.CoreMerge(t[0], t[1], t[2], t[3], t[4], options).Output]);
    }

    [Test]
    public void StridedInputs_EqualContiguousOnes()
    {
        using var scope = NewDisposeScope();
        var options = new CoreMergeOptions { Scale = 0.5 };
        Tensor[] dense = [.. Make(ScalarType.Float32, [6, DIn], [Rank, DIn], [DOut, Rank], [Experts, Rank, Rank], [Experts, Rank]).Select(t => t.to(_device))];
        Tensor[] strided = [.. dense.Select(t => t.transpose(0, 1).contiguous().transpose(0, 1))];
        strided[0] = cat([full(6, 2, double.NaN, dtype: ScalarType.Float32, device: _device), dense[0]], 1).narrow(1, 2, DIn);
        Assert.That(strided[1].is_contiguous(), Is.False);
        Tensor Run(Tensor[] t) => MoeFunctional.CoreMerge(t[0], t[1], t[2], t[3], t[4], options).Output;
        TensorAssert.AreEqual(Run(strided), Run(dense));
    }

    [Test]
    public void NoTokens_GivesEmptyOutputAndZeroGradients()
    {
        using var scope = NewDisposeScope();
        Tensor[] t = [.. Make(ScalarType.Float32, [0, DIn], [Rank, DIn], [DOut, Rank], [Rank, DIn]).Select(x => x.to(_device).requires_grad_())];
        Tensor y = MoeFunctional.RankLora(t[0], t[1], t[2], t[3], K, RankLoraOptions.Smora(alpha: 4, k: (int)K) with { BiasMode = BiasMode.None }).Output;
        Assert.That(y.shape, Is.EqualTo(new[] { 0, DOut }));
        y.sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(t[1].grad!.abs().max().cpu().item<float>(), Is.Zero);
    }

    [Test]
    public void UpdateGateBias_WorksInPlace()
    {
        using var scope = NewDisposeScope();
        Tensor bias = tensor(new[] { 0f, 1, 2 }, device: _device);
        MoeFunctional.UpdateGateBias(bias, tensor(new[] { 1, 2, 3 }, device: _device), 0.5);
        TensorAssert.AreEqual(bias.cpu(), tensor(new[] { 0.5f, 1, 1.5f }));
    }

    [Test]
    public void DropoutMask_IsTheSameEverywhere()
    {
        using var scope = NewDisposeScope();
        Tensor here = MoeFunctional.DropoutMask(7, 13, 0.3, 5, 6, DropoutStream.Core, ScalarType.BFloat16, _device);
        Assert.That(here.device_type, Is.EqualTo(_device.type));
        float[] expected = new float[7 * 13];
        Dropout.Mask(expected, 7, 13, 0.3, 5, 6, DropoutStream.Core);
        TensorAssert.AreEqual(here.cpu().flatten(), tensor(expected).to(ScalarType.BFloat16));
    }

    [Test]
    public void Module_ForwardAndGradients_EqualTheReference([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        manual_seed(31);
        using AdapterLinear module = config.CreateModule(nn.Linear(DIn, DOut));
        using (no_grad())
        {
            foreach ((_, Tensor tensor) in module.AdapterTensors())
                nn.init.normal_(tensor, 0, 0.3);
        }
        module.to(_device);
        Tensor x = randn(2, 3, DIn).to(_device);
        Dictionary<string, Tensor> Run(AdapterImplementation implementation)
        {
            module.Implementation = implementation;
            module.zero_grad();
            Tensor leaf = x.detach().clone().requires_grad_();
            Tensor y = module.call(leaf);
            Assert.That(y.device_type, Is.EqualTo(_device.type));
            GradientCheck.WeightedSum(y.cpu(), 5).backward();
            MoeFunctional.ThrowPendingBackwardError();
            var results = module.AdapterParameters().ToDictionary(p => p.name, p => p.parameter.grad!.clone());
            results.Add("x", leaf.grad!);
            results.Add("y", y.detach());
            return results;
        }
        Dictionary<string, Tensor> got = Run(AdapterImplementation.Fused);
        Dictionary<string, Tensor> expected = Run(AdapterImplementation.Reference);
        Assert.That(got.Keys, Is.EquivalentTo(expected.Keys));
        foreach ((string name, Tensor value) in got)
            TensorAssert.AreCloseToScale(value, expected[name], 1e-5, name);
    }

    [Test]
    public void Module_Training_ReducesTheLoss([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        manual_seed(7);
        using AdapterLinear module = config.CreateModule(nn.Linear(DIn, DOut));
        module.to(_device);
        Tensor x = randn(12, DIn).to(_device), target = randn(12, DOut).to(_device);
        using var optimizer = optim.AdamW(module.AdapterParameters().Select(p => p.parameter), 0.02);
        double first = 0, last = 0;
        for (int step = 0; step < 15; step++)
        {
            optimizer.zero_grad();
            Tensor loss = nn.functional.mse_loss(module.call(x), target);
            loss.backward();
            optimizer.step();
            last = loss.cpu().item<float>();
            if (step == 0)
                first = last;
        }
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(last, Is.LessThan(0.95 * first));
    }

    [Test]
    public void TopKGate_EqualsTheReference()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        using var gate = new TopKGate(DIn, 6, 2, new GateOptions { BiasMode = BiasMode.Selection, Normalize = GateNormalize.SumToOne });
        gate.to(_device);
        Tensor x = randn(8, DIn).to(_device);
        using GateResult result = gate.call(x);
        gate.UpdateRouterBias(0.1);
        using GateResult balanced = gate.call(x);
        gate.Implementation = AdapterImplementation.Reference;
        using GateResult balancedExpected = gate.call(x);
        TensorAssert.AreEqual(balanced.Ids!.cpu(), balancedExpected.Ids!.cpu(), "ids after a step of load balancing");
        gate.load_state_dict(new Dictionary<string, Tensor>(gate.state_dict().Select(pair => KeyValuePair.Create(pair.Key, pair.Key.Contains("bias") ? zeros_like(pair.Value) : pair.Value))));
        using GateResult expected = gate.call(x);
        TensorAssert.AreEqual(result.Ids!.cpu(), expected.Ids!.cpu());
        TensorAssert.AreCloseToScale(result.Weights.cpu(), expected.Weights.cpu(), 1e-5);
    }

    [Test]
    public void DoubleAndStrict_RunOnTheCpuOnly()
    {
        using var scope = NewDisposeScope();
        Tensor[] doubles = [.. Make(ScalarType.Float64, [3, DIn], [Rank, DIn], [DOut, Rank], [Experts, Rank, Rank], [Experts, Rank]).Select(t => t.to(_device).requires_grad_())];
        Tensor[] floats = [.. doubles.Select(t => t.detach().to(ScalarType.Float32))];
        var signed = new RankLoraOptions { Scale = 1, Gate = RankGate.ActivationSigned };
        var merge = new CoreMergeOptions { Scale = 1 };
        TestDelegateWithText[] calls =
        [
            new(() => MoeFunctional.Gate(doubles[0], 2), "logits is Float64"),
            new(() => MoeFunctional.RankLora(doubles[0], doubles[1], doubles[2], null, 2, signed), "x is Float64"),
            new(() => MoeFunctional.CoreMerge(doubles[0], doubles[1], doubles[2], doubles[3], doubles[4], merge), "x is Float64"),
            new(() => MoeFunctional.Gate(floats[0], 2, new GateOptions { Flags = CallFlags.Strict }), "Strict"),
            new(() => MoeFunctional.RankLora(floats[0], floats[1], floats[2], null, 2, signed with { Flags = CallFlags.Strict }), "Strict"),
            new(() => MoeFunctional.CoreMerge(floats[0], floats[1], floats[2], floats[3], floats[4], merge with { Flags = CallFlags.Strict }), "Strict"),
        ];
        Assert.Multiple(() =>
        {
            foreach (TestDelegateWithText call in calls)
            {
                if (place == TestPlace.Cpu)
                    Assert.That(() => call.Run(), Throws.Nothing);
                else
                    Assert.That(() => call.Run(), Throws.TypeOf<MoeUnsupportedException>().With.Message.Contains(call.Text).And.Message.Contains("on the CPU only"));
            }
        });
    }

    private sealed record TestDelegateWithText(Action Run, string Text);

    private static Tensor Values(ScalarType type, params long[] shape) => randn(shape, dtype: ScalarType.Float64).to(type);

    private static Tensor[] Make(ScalarType type, params long[][] shapes)
    {
        manual_seed(17);
        return [.. shapes.Select(shape => Values(type, shape))];
    }

    /// <summary>Compares outputs, and the gradients of a weighted sum of them, with a twin's in double precision.</summary>
    private void Check(Tensor[] inputs, double tolerance, string[] names, Func<Tensor[], Tensor[]> fused, Func<Tensor[], Tensor[]> twin)
    {
        Tensor[] leaves = [.. inputs.Select(t => t.detach().to(_device, copy: true).requires_grad_())];
        Tensor[] wide = [.. inputs.Select(t => t.detach().to(ScalarType.Float64, copy: true).requires_grad_())];
        Tensor[] got = fused(leaves);
        Tensor[] expected = twin(wide);
        Tensor loss = zeros(1, dtype: ScalarType.Float64);
        Tensor wideLoss = zeros(1, dtype: ScalarType.Float64);
        for (int i = 0; i < got.Length; i++)
        {
            Assert.That(got[i].device_type, Is.EqualTo(_device.type));
            TensorAssert.AreCloseToScale(got[i].cpu(), expected[i], tolerance, $"output {i}");
            // Weights of the loss that every type holds exactly.
            Tensor weights = Values(ScalarType.Float64, got[i].shape).mul(4).round().div(4);
            loss += (got[i].cpu().to(ScalarType.Float64) * weights).sum();
            wideLoss += (expected[i] * weights).sum();
        }
        loss.backward();
        wideLoss.backward();
        MoeFunctional.ThrowPendingBackwardError();
        for (int i = 0; i < inputs.Length; i++)
        {
            Assert.That(leaves[i].grad!.dtype, Is.EqualTo(inputs[i].dtype), names[i]);
            TensorAssert.AreCloseToScale(leaves[i].grad!.cpu(), wide[i].grad, tolerance, $"d {names[i]}");
        }
    }
}
