using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>What every method that is one matrix for all tokens must do.</summary>
public sealed class VariantContractTests
{
    private const long DIn = 12;
    private const long DOut = 8;

    private static IEnumerable<AdapterConfig> Configurations() =>
    [
        new LoRAConfig { Rank = 4, Alpha = 6 },
        new LoRAConfig { Rank = 4, Alpha = 6, RankStabilized = true },
        new LoRAConfig { Rank = 4, InitialWeights = LoRAInit.Gaussian, LearningRateRatio = 16 },
        new LoRAConfig { Rank = 4, Alpha = 6, UseDora = true },
        new LoRAConfig { Rank = 4, Alpha = 6, UseDora = true, RankStabilized = true, InitialWeights = LoRAInit.Gaussian },
        new LoRAConfig { Rank = 3, Alpha = 6, InitialWeights = LoRAInit.Pissa },
        new LoRAConfig { Rank = 3, Alpha = -2, InitialWeights = LoRAInit.Milora, RankStabilized = true },
        new LoRAConfig { Rank = 3, Alpha = 6, InitialWeights = LoRAInit.Olora },
        new LoHaConfig { Rank = 3, Alpha = 5 },
        new LoKrConfig { Rank = 1, Alpha = 2 },
        new LoKrConfig { Rank = 8 },
        new LoKrConfig { Rank = 1, DecomposeBoth = true, DecomposeFactor = 4 },
    ];

    private static bool TakesFromBase(AdapterConfig config) => config is LoRAConfig { InitialWeights: LoRAInit.Pissa or LoRAInit.Milora or LoRAInit.Olora };

    private static Linear NewLayer(ScalarType type, bool hasBias = true)
    {
        manual_seed(41);
        return nn.Linear(DIn, DOut, hasBias, dtype: type);
    }

    private static AdapterLinear Wrap(AdapterConfig config, Linear layer, bool randomize = true)
    {
        AdapterLinear module = config.CreateModule(layer);
        using var noGrad = no_grad();
        module.EnterBase();
        if (randomize)
        {
            foreach ((_, Parameter parameter) in module.AdapterParameters())
                parameter.add_(randn_like(parameter) * 0.3);
        }
        return module;
    }

    [Test]
    public void NewAdapter_ChangesNothing([ValueSource(nameof(Configurations))] AdapterConfig config, [Values] bool hasBias)
    {
        using var scope = NewDisposeScope();
        Linear layer = NewLayer(ScalarType.Float64, hasBias);
        Tensor x = randn(2, 5, DIn, dtype: ScalarType.Float64);
        Tensor before = layer.call(x);
        using AdapterLinear module = Wrap(config, layer, randomize: false);
        TensorAssert.AreClose(module.call(x), before, 0, TakesFromBase(config) ? 1e-13 : 0);
    }

    [Test]
    public void Init_AfterTraining_ChangesNothingAgain([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        Linear layer = NewLayer(ScalarType.Float64);
        Tensor x = randn(5, DIn, dtype: ScalarType.Float64);
        Tensor before = layer.call(x);
        using AdapterLinear module = Wrap(config, layer);
        Assert.That((module.call(x) - before).abs().max().item<double>(), Is.GreaterThan(1e-3), "the adapter does something");
        module.Init();
        TensorAssert.AreClose(module.call(x), before, 0, TakesFromBase(config) ? 1e-13 : 0);
    }

    [Test]
    public void Merge_ForwardStaysAndUnmergeBringsBackTheBits([ValueSource(nameof(Configurations))] AdapterConfig config, [Values] bool hasBias)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float64, hasBias));
        Tensor x = randn(2, 5, DIn, dtype: ScalarType.Float64);
        Tensor before = module.call(x).detach();
        Tensor weight = module.BaseLayer.weight.detach().clone();
        Tensor delta = module.Delta();
        Assert.That(delta.shape, Is.EqualTo(new[] { DOut, DIn }));

        Assert.That(module.CanMerge, Is.True);
        module.Merge();
        module.Merge();
        Assert.That(module.IsMerged, Is.True);
        TensorAssert.AreClose(module.BaseLayer.weight, weight + delta, 0, 1e-14, "merged weight");
        TensorAssert.AreClose(module.call(x), before, 0, 1e-12, "merged forward");
        module.Unmerge();
        module.Unmerge();
        Assert.That(module.IsMerged, Is.False);
        TensorAssert.AreEqual(module.BaseLayer.weight, weight, "unmerged weight");
        TensorAssert.AreEqual(module.call(x), before, "unmerged forward");
    }

    [Test]
    public void Merge_HalfPrecisionBase_RoundsOnce([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, NewLayer(ScalarType.BFloat16));
        Tensor weight = module.BaseLayer.weight.detach().clone();
        Tensor expected = (weight.to(ScalarType.Float32) + module.Delta()).to(ScalarType.BFloat16);
        module.Merge();
        TensorAssert.AreEqual(module.BaseLayer.weight, expected);
        module.Unmerge();
        TensorAssert.AreEqual(module.BaseLayer.weight, weight);
    }

    [Test]
    public void Merge_ThenTo_UnmergesInTheNewType()
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 2 }, NewLayer(ScalarType.Float32));
        Tensor weight = module.BaseLayer.weight.detach().clone();
        module.Merge();
        module.to(ScalarType.Float64);
        module.Unmerge();
        TensorAssert.AreEqual(module.BaseLayer.weight, weight.to(ScalarType.Float64));
    }

    [Test]
    public void Forward_OfTheVariant_AddsDelta([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float64));
        Tensor x = randn(5, DIn, dtype: ScalarType.Float64);
        Tensor output = randn(5, DOut, dtype: ScalarType.Float64);
        Tensor copy = output.clone();
        TensorAssert.AreClose(((IAdapterVariant)module).Forward(x, output), copy + x.matmul(module.Delta().t()), 0, 1e-12);
        TensorAssert.AreEqual(output, copy, "the argument");
    }

    [Test]
    public void Backward_EqualsDifferences([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        if (config is LoRAConfig { UseDora: true })
            Assert.Pass("DoRA's gradient is not that of its forward: the lengths of rows count as constants; see below.");
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float64));
        Parameter[] parameters = [.. module.AdapterParameters().Select(p => p.parameter)];
        string[] names = ["x", .. module.AdapterParameters().Select(p => p.name)];
        Tensor x = randn(4, DIn, dtype: ScalarType.Float64).requires_grad_();
        GradientCheck.WeightedSum(module.call(x), 1).backward();
        Tensor[] leaves = [x, .. parameters];
        for (int i = 0; i < leaves.Length; i++)
        {
            for (long at = 0; at < leaves[i].numel(); at += Math.Max(1, leaves[i].numel() / 5))
            {
                double Loss(double offset)
                {
                    using var noGrad = no_grad();
                    leaves[i].view(-1)[at] += offset;
                    double loss = GradientCheck.WeightedSum(module.call(x), 1).item<double>();
                    leaves[i].view(-1)[at] -= offset;
                    return loss;
                }
                double expected = (Loss(1e-5) - Loss(-1e-5)) / 2e-5;
                Assert.That(leaves[i].grad!.flatten()[at].item<double>(), Is.EqualTo(expected).Within(1e-6 * Math.Max(1, Math.Abs(expected))), $"d {names[i]}[{at}]");
            }
        }
    }

    [Test]
    public void DoRA_ForwardAndGradients_FollowTheFormulaWithConstantLengths()
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 4, Alpha = 6, UseDora = true }, NewLayer(ScalarType.Float64));
        var own = module.AdapterParameters().ToDictionary(p => p.name, p => p.parameter);
        Tensor x = randn(4, DIn, dtype: ScalarType.Float64);
        Tensor y = module.call(x);
        GradientCheck.WeightedSum(y, 3).backward();

        Tensor a = own["lora_A.weight"].detach().clone().requires_grad_();
        Tensor b = own["lora_B.weight"].detach().clone().requires_grad_();
        Tensor m = own["lora_magnitude_vector"].detach().clone().requires_grad_();
        Tensor whole = module.BaseLayer.weight + b.matmul(a) * 1.5;
        Tensor lengths = linalg.norm(whole, dims: [1]).detach();
        Tensor expected = x.matmul((whole * (m / lengths).unsqueeze(1)).t()) + module.BaseLayer.bias!;
        GradientCheck.WeightedSum(expected, 3).backward();
        TensorAssert.AreClose(y, expected, 0, 1e-12, "y");
        TensorAssert.AreClose(own["lora_A.weight"].grad, a.grad, 1e-10, 1e-12, "dA");
        TensorAssert.AreClose(own["lora_B.weight"].grad, b.grad, 1e-10, 1e-12, "dB");
        TensorAssert.AreClose(own["lora_magnitude_vector"].grad, m.grad, 1e-10, 1e-12, "dm");
    }

    [Test]
    public void DoRA_RowOfZeros_StaysZeros()
    {
        using var scope = NewDisposeScope();
        Linear layer = NewLayer(ScalarType.Float32);
        using (no_grad())
            layer.weight[2] = 0;
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 2, UseDora = true }, layer, randomize: false);
        Tensor x = randn(3, DIn);
        TensorAssert.AreEqual(module.call(x), layer.call(x));
    }

    [TestCase(LoRAInit.Pissa)]
    [TestCase(LoRAInit.Milora)]
    public void Spectral_Start_IsTheSingularTripletsAndTheBaseTheRest(LoRAInit init)
    {
        using var scope = NewDisposeScope();
        Linear layer = NewLayer(ScalarType.Float64);
        Tensor weight = layer.weight.detach().clone();
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 3, Alpha = 6, InitialWeights = init }, layer, randomize: false);
        double[] all = linalg.svdvals(weight).data<double>().ToArray();
        double[] kept = init == LoRAInit.Pissa ? all[..3] : all[^3..];
        double[] rest = init == LoRAInit.Pissa ? all[3..] : all[..^3];
        Assert.That(linalg.svdvals(module.Delta()).data<double>().ToArray()[..3], Is.EqualTo(kept).Within(1e-12));
        Assert.That(linalg.svdvals(module.BaseLayer.weight).data<double>().ToArray()[..rest.Length], Is.EqualTo(rest).Within(1e-12));
        module.Enabled = false;
        Tensor x = randn(3, DIn, dtype: ScalarType.Float64);
        TensorAssert.AreClose(module.call(x), nn.functional.linear(x, weight, layer.bias), 0, 1e-13, "switched off");
    }

    [Test]
    public void Spectral_RankAboveTheWeights_Throws()
    {
        Assert.That(() => new SpectralLoRALinear(nn.Linear(12, 8), new LoRAConfig { Rank = 9, InitialWeights = LoRAInit.Pissa }),
            Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("8 singular values"));
        Assert.That(() => new SpectralLoRALinear(nn.Linear(12, 8), new LoRAConfig()), Throws.ArgumentException.With.Message.Contains("Pissa"));
        Assert.That(() => new LoRALinear(nn.Linear(12, 8), new LoRAConfig { UseDora = true }), Throws.ArgumentException.With.Message.Contains("DoRALinear"));
    }

    [Test]
    public void ParameterCounts_FollowTheFormulas()
    {
        long Count(AdapterConfig config)
        {
            using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float32));
            return module.AdapterParameters().Sum(p => p.parameter.numel());
        }
        Assert.That(Count(new LoRAConfig { Rank = 4 }), Is.EqualTo(4 * (DIn + DOut)));
        Assert.That(Count(new LoRAConfig { Rank = 4, UseDora = true }), Is.EqualTo(4 * (DIn + DOut) + DOut));
        Assert.That(Count(new LoRAConfig { Rank = 4, InitialWeights = LoRAInit.Pissa }), Is.EqualTo(4 * (DIn + DOut)));
        Assert.That(Count(new LoHaConfig { Rank = 3 }), Is.EqualTo(2 * 3 * (DIn + DOut)));
        // d_in = 3 * 4, d_out = 2 * 4: W1 [2, 3], W2 [4, 4], of rank 1 in two factors.
        Assert.That(Count(new LoKrConfig { Rank = 1 }), Is.EqualTo((2 * 3) + (1 * (4 + 4))));
        Assert.That(Count(new LoKrConfig { Rank = 2 }), Is.EqualTo((2 * 3) + (4 * 4)));
        Assert.That(Count(new LoKrConfig { Rank = 1, DecomposeBoth = true }), Is.EqualTo((1 * (2 + 3)) + (1 * (4 + 4))));
        Assert.That(Count(new SMoRAConfig { Rank = 8, ActiveRanks = 2 }), Is.EqualTo(8 * (DIn + DOut) + (8 * DIn)));
        Assert.That(Count(new CoMoLConfig { Rank = 4, Experts = 3 }), Is.EqualTo(4 * (DIn + DOut) + (3 * 4 * 4) + (3 * 4)));
    }

    [TestCase(12, -1, 3, 4)]
    [TestCase(16, -1, 4, 4)]
    [TestCase(7, -1, 1, 7)]
    [TestCase(1, -1, 1, 1)]
    [TestCase(12, 6, 2, 6)]
    [TestCase(12, 5, 3, 4)]
    [TestCase(36, 4, 4, 9)]
    [TestCase(4096, -1, 64, 64)]
    public void LoKr_Split_GivesTheFactors(long width, long factor, long small, long large)
    {
        Assert.That(LoKrConfig.Split(width, factor), Is.EqualTo((small, large)));
    }

    [Test]
    public void Names_FollowPeft()
    {
        string[] Names(AdapterConfig config)
        {
            using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float32));
            return [.. module.AdapterTensors().Select(t => $"{t.Name} [{string.Join(", ", t.Tensor.shape)}]").Order(StringComparer.Ordinal)];
        }
        Assert.That(Names(new LoRAConfig { Rank = 4, UseDora = true }), Is.EqualTo((string[])["lora_A.weight [4, 12]", "lora_B.weight [8, 4]", "lora_magnitude_vector [8]"]));
        Assert.That(Names(new LoRAConfig { Rank = 4, InitialWeights = LoRAInit.Pissa }), Is.EqualTo((string[])
            ["lora_A.weight [4, 12]", "lora_A_init [4, 12]", "lora_B.weight [8, 4]", "lora_B_init [8, 4]"]));
        Assert.That(Names(new LoHaConfig { Rank = 3 }), Is.EqualTo((string[])["hada_w1_a [8, 3]", "hada_w1_b [3, 12]", "hada_w2_a [8, 3]", "hada_w2_b [3, 12]"]));
        Assert.That(Names(new LoKrConfig { Rank = 1 }), Is.EqualTo((string[])["lokr_w1 [2, 3]", "lokr_w2_a [4, 1]", "lokr_w2_b [1, 4]"]));
        Assert.That(Names(new LoKrConfig { Rank = 1, DecomposeBoth = true }), Is.EqualTo((string[])
            ["lokr_w1_a [2, 1]", "lokr_w1_b [1, 3]", "lokr_w2_a [4, 1]", "lokr_w2_b [1, 4]"]));
    }

    [Test]
    public void To_OtherType_WorksAndStateDictRoundTrips([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float32));
        Tensor x = randn(5, DIn);
        Tensor before = module.call(x);
        module.to(ScalarType.Float64);
        Assert.That(module.AdapterTensors().Select(t => t.Tensor.dtype), Is.All.EqualTo(ScalarType.Float64));
        TensorAssert.AreCloseToScale(module.call(x.to(ScalarType.Float64)), before, 1e-5);
        Assert.That(module.AdapterParameters().Select(p => p.parameter.requires_grad), Is.All.True);

        module.to(ScalarType.Float32);
        manual_seed(3);
        using AdapterLinear other = Wrap(config, nn.Linear(DIn, DOut), randomize: false);
        other.load_state_dict(module.state_dict());
        TensorAssert.AreEqual(other.call(x), module.call(x));
        // What the base lacks came with the state.
        (other.Enabled, module.Enabled) = (false, false);
        TensorAssert.AreEqual(other.call(x), module.call(x));
    }

    [Test]
    public void Dropout_SameMaskInForwardAndBackward([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config with { Dropout = 0.5 }, NewLayer(ScalarType.Float64));
        using (no_grad())
        {
            module.BaseLayer.weight.zero_();
            module.BaseLayer.bias!.zero_();
        }
        if (config is LoRAConfig { UseDora: true })
            module.Init();
        // y is a linear function of x with this call's mask, so y is what the gradient says.
        Tensor x = rand(1, DIn, dtype: ScalarType.Float64).add_(1).requires_grad_();
        Tensor y = module.call(x);
        Tensor weights = randn_like(y);
        (y * weights).sum().backward();
        TensorAssert.AreClose((x.grad! * x).sum(), (y * weights).sum(), 1e-12, 1e-12);
        if (config is not LoRAConfig { UseDora: true })
            Assert.That((x.grad! == 0).sum().item<long>(), Is.GreaterThan(0).And.LessThan(DIn), "some inputs were dropped");
        module.eval();
        TensorAssert.AreEqual(module.call(x), module.call(x), "evaluation");
    }

    private static IEnumerable<AdapterConfig> Routed() =>
        [new SMoRAConfig { Rank = 4, ActiveRanks = 2 }, new CoMoLConfig { Rank = 4, Experts = 2 }];

    [TestCaseSource(nameof(Routed))]
    public void TokenDependent_CannotMerge_AndSaysWhy(AdapterConfig config)
    {
        using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float32));
        Assert.That(module.CanMerge, Is.False);
        Assert.That(module.Merge, Throws.InvalidOperationException.With.Message.Contains("depend").And.Message.Contains("token"));
        Assert.That(module.Delta, Throws.InvalidOperationException.With.Message.Contains("token"));
        Assert.That(module.IsMerged, Is.False);
    }

    [TestCaseSource(nameof(Routed))]
    public void TokenDependent_Init_ChangesNothingAgain(AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, NewLayer(ScalarType.Float32));
        Tensor x = randn(3, DIn);
        module.call(x);
        module.Init();
        TensorAssert.AreEqual(module.call(x), module.BaseLayer.call(x));
        if (module is SMoRALinear smora)
            Assert.That(smora.get_buffer("lora_biases")!.count_nonzero().item<long>(), Is.Zero);
    }

    [Test]
    public void Merged_SwitchingOffAndInit_Throw()
    {
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 2 }, NewLayer(ScalarType.Float32));
        module.Merge();
        Assert.That(() => module.Enabled = false, Throws.InvalidOperationException.With.Message.Contains("unmerge"));
        Assert.That(module.Init, Throws.InvalidOperationException.With.Message.Contains("unmerge"));
        Assert.That(module.Delta, Throws.InvalidOperationException.With.Message.Contains("unmerge"));
        module.Unmerge();
        module.Enabled = false;
        Assert.That(module.Merge, Throws.InvalidOperationException.With.Message.Contains("switched off"));
    }

    [Test]
    public void Forward_LeavesNoTensors([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using AdapterLinear module = Wrap(config with { Dropout = 0.1 }, NewLayer(ScalarType.Float32));
        using Tensor x = randn(4, DIn, requires_grad: true);
        void Step()
        {
            using var scope = NewDisposeScope();
            module.call(x).sum().backward();
            module.zero_grad();
            x.grad!.zero_();
            module.Merge();
            module.Unmerge();
        }
        Step();
        using (module.call(x))
        {
        }
        long before = Tensor.TotalCount;
        using (Tensor y = module.call(x))
            Assert.That(Tensor.TotalCount - before, Is.LessThanOrEqualTo(1), "the result alone");
        for (int i = 0; i < 20; i++)
            Step();
        // Fewer when a finaliser has freed what another test left.
        Assert.That(Tensor.TotalCount, Is.LessThanOrEqualTo(before));
    }
}
