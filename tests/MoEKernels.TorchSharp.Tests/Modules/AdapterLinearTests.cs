using TorchSharp;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>What LoRALinear, SMoRALinear and CoMoLLinear have in common.</summary>
public sealed class AdapterLinearTests
{
    private const long DIn = 11;
    private const long DOut = 7;

    private static IEnumerable<AdapterConfig> Configurations() =>
    [
        new LoRAConfig { Rank = 4 },
        new SMoRAConfig { Rank = 8, ActiveRanks = 3 },
        new SMoRAConfig { Rank = 8, ActiveRanks = 2, Gate = SMoRAGate.SoftmaxOverSelected },
        new CoMoLConfig { Rank = 4, Experts = 3, Dropout = 0, CoreDropout = 0 },
        new CoMoLConfig { Rank = 4, Experts = 3, Router = CoreRouter.Input, Dropout = 0, CoreDropout = 0 },
    ];

    private static AdapterLinear Wrap(AdapterConfig config, bool hasBias = true, ScalarType type = ScalarType.Float32, bool randomize = true)
    {
        manual_seed(31);
        AdapterLinear module = config.CreateModule(nn.Linear(DIn, DOut, hasBias, dtype: type));
        if (randomize)
        {
            using var noGrad = no_grad();
            foreach ((_, Tensor tensor) in module.AdapterTensors())
                nn.init.normal_(tensor, 0, 0.3);
        }
        return module;
    }

    private static AdapterConfig WithDropout(AdapterConfig config, double p) =>
        config is CoMoLConfig comol ? comol with { Dropout = p, CoreDropout = p } : config with { Dropout = p };

    [Test]
    public void Forward_NewAdapter_GivesTheBaseOutput([ValueSource(nameof(Configurations))] AdapterConfig config, [Values] bool hasBias)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, hasBias, randomize: false);
        Tensor x = randn(5, DIn);
        TensorAssert.AreEqual(module.call(x), module.BaseLayer.call(x));
    }

    [Test]
    public void Forward_AnyLeadingDimensions_EqualsTheReference([ValueSource(nameof(Configurations))] AdapterConfig config, [Values] bool hasBias)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, hasBias);
        foreach (long[] shape in new long[][] { [DIn], [1, DIn], [9, DIn], [2, 3, DIn], [2, 1, 3, DIn], [0, DIn] })
        {
            Tensor x = randn(shape);
            Tensor fused = module.call(x);
            module.Implementation = AdapterImplementation.Reference;
            Tensor reference = module.call(x);
            module.Implementation = AdapterImplementation.Fused;
            Assert.That(fused.shape[^1], Is.EqualTo(DOut));
            TensorAssert.AreCloseToScale(fused, reference, 1e-5, $"[{string.Join(", ", shape)}]");
        }
    }

    [Test]
    public void Backward_EqualsTheReference([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, type: ScalarType.Float64);
        Tensor x = randn(2, 3, DIn, dtype: ScalarType.Float64);
        Dictionary<string, Tensor> Run(AdapterImplementation implementation)
        {
            module.Implementation = implementation;
            module.zero_grad();
            Tensor leaf = x.detach().clone().requires_grad_();
            GradientCheck.WeightedSum(module.call(leaf), 5).backward();
            MoeFunctional.ThrowPendingBackwardError();
            var gradients = module.AdapterParameters().ToDictionary(p => p.name, p => p.parameter.grad!.clone());
            gradients.Add("x", leaf.grad!);
            return gradients;
        }
        Dictionary<string, Tensor> got = Run(AdapterImplementation.Fused);
        foreach ((string name, Tensor expected) in Run(AdapterImplementation.Reference))
            TensorAssert.AreCloseToScale(got[name], expected, 1e-9, name);
        Assert.That(module.BaseLayer.weight.grad, Is.Null);
    }

    [Test]
    public void Training_AdamW_LowersTheLossAndLeavesTheBaseAlone([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config, randomize: false);
        Tensor frozen = module.BaseLayer.weight.detach().clone();
        Tensor x = randn(32, DIn);
        Tensor target = module.BaseLayer.call(x).detach() + x.matmul(randn(DIn, DOut)).mul(0.3);
        using var optimizer = optim.AdamW(module.AdapterParameters().Select(p => p.parameter), lr: 0.02);
        double first = 0, last = 0;
        for (int step = 0; step < 60; step++)
        {
            using var inner = NewDisposeScope();
            optimizer.zero_grad();
            Tensor loss = nn.functional.mse_loss(module.call(x), target);
            loss.backward();
            optimizer.step();
            last = loss.item<float>();
            if (step == 0)
                first = last;
        }
        Assert.That(last, Is.LessThan(0.7 * first));
        TensorAssert.AreEqual(module.BaseLayer.weight, frozen);
    }

    [Test]
    public void Names_FollowPeftAndTheAuthors()
    {
        string[] Names(AdapterConfig config)
        {
            using AdapterLinear module = Wrap(config);
            return [.. module.state_dict().Select(t => $"{t.Key} [{string.Join(", ", t.Value.shape)}]").Order(StringComparer.Ordinal)];
        }
        string[] common = ["base_layer.bias [7]", "base_layer.weight [7, 11]"];
        Assert.That(Names(new LoRAConfig { Rank = 4 }), Is.EqualTo((string[])[.. common, "lora_A.weight [4, 11]", "lora_B.weight [7, 4]"]));
        Assert.That(Names(new SMoRAConfig { Rank = 8, RankPartition = 2 }), Is.EqualTo((string[])
            [.. common, "lora_A.weight [8, 11]", "lora_B.weight [7, 8]", "lora_biases [8]", "lora_router.weight [4, 11]"]));
        Assert.That(Names(new CoMoLConfig { Rank = 4, Experts = 3 }), Is.EqualTo((string[])
            [.. common, "lora_A.weight [4, 11]", "lora_B.weight [7, 4]", "lora_C [3, 4, 4]", "lora_router.weight [3, 4]"]));
        Assert.That(Names(new CoMoLConfig { Rank = 4, Experts = 3, Router = CoreRouter.Input }), Does.Contain("lora_router.weight [3, 11]"));
    }

    [Test]
    public void InitialValues_FollowThePapers()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        using var smora = new SMoRALinear(nn.Linear(400, 5), new SMoRAConfig());
        using var comol = new CoMoLLinear(nn.Linear(400, 5), new CoMoLConfig { Experts = 64 });
        void IsUniform(Tensor tensor, double bound, string what)
        {
            Tensor values = tensor.detach().flatten();
            Assert.That(values.abs().max().item<float>(), Is.LessThanOrEqualTo((float)bound).And.GreaterThan(0.97 * bound), what);
            Assert.That(values.std().item<float>(), Is.EqualTo(bound / Math.Sqrt(3)).Within(0.05 * bound), what);
        }
        IsUniform(smora.get_parameter("lora_A.weight")!, 1 / Math.Sqrt(400), "A");
        IsUniform(smora.get_parameter("lora_router.weight")!, 1 / Math.Sqrt(400), "W_r");
        IsUniform(comol.get_parameter("lora_C")!, 1 / Math.Sqrt(16), "C");
        IsUniform(comol.get_parameter("lora_router.weight")!, 1 / Math.Sqrt(16), "W_g");
        Assert.That(smora.get_parameter("lora_B.weight")!.count_nonzero().item<long>(), Is.Zero);
        Assert.That(comol.get_parameter("lora_B.weight")!.count_nonzero().item<long>(), Is.Zero);
        Assert.That(smora.get_buffer("lora_biases")!.count_nonzero().item<long>(), Is.Zero);
    }

    [Test]
    public void StateDict_RoundTrip_GivesTheSameOutput([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config);
        manual_seed(77);
        using AdapterLinear other = config.CreateModule(nn.Linear(DIn, DOut));
        Tensor x = randn(5, DIn);
        other.load_state_dict(module.state_dict());
        TensorAssert.AreEqual(other.call(x), module.call(x));
    }

    [TestCase(ScalarType.BFloat16, 3e-2)]
    [TestCase(ScalarType.Float16, 5e-3)]
    [TestCase(ScalarType.Float64, 1e-5)]
    public void To_OtherType_ConvertsAdapterAndWorks(ScalarType type, double tolerance)
    {
        foreach (AdapterConfig config in Configurations())
        {
            using var scope = NewDisposeScope();
            using AdapterLinear module = Wrap(config);
            // Nothing is selected, so that rounding cannot select something else.
            Tensor x = randn(5, DIn);
            module.Enabled = config is not SMoRAConfig;
            Tensor before = module.call(x);
            module.to(type);
            Assert.That(module.parameters().Select(p => p.dtype), Is.All.EqualTo(type));
            TensorAssert.AreCloseToScale(module.call(x.to(type)), before, tolerance, config.GetType().Name);
            module.Enabled = true;
            Tensor y = module.call(x.to(type).requires_grad_());
            Assert.That(y.dtype, Is.EqualTo(type));
            y.sum().backward();
            MoeFunctional.ThrowPendingBackwardError();
            Assert.That(module.AdapterParameters().Select(p => p.parameter.grad!.dtype), Is.All.EqualTo(type));
        }
    }

    [TestCase(ScalarType.BFloat16)]
    [TestCase(ScalarType.Float16)]
    public void Wrap_HalfPrecisionBase_KeepsTheAdapterInSingle(ScalarType type)
    {
        foreach (AdapterConfig config in Configurations())
        {
            using var scope = NewDisposeScope();
            using AdapterLinear module = Wrap(config, type: type);
            Assert.That(module.AdapterParameters().Select(p => p.parameter.dtype), Is.All.EqualTo(ScalarType.Float32));
            Tensor y = module.call(randn(3, DIn).to(type));
            Assert.That(y.dtype, Is.EqualTo(type));
            y.sum().backward();
            MoeFunctional.ThrowPendingBackwardError();
            Assert.That(module.AdapterParameters().Select(p => p.parameter.grad!.dtype), Is.All.EqualTo(ScalarType.Float32));
        }
    }

    [Test]
    public void LoadBias_SurvivesTypesAndStateDict()
    {
        using var scope = NewDisposeScope();
        using var module = (SMoRALinear)Wrap(new SMoRAConfig { Rank = 8, ActiveRanks = 3 });
        Tensor bias = module.get_buffer("lora_biases")!.clone();
        module.to(ScalarType.BFloat16);
        Assert.That(module.get_buffer("lora_biases")!.dtype, Is.EqualTo(ScalarType.Float32), "steps of 1e-5 would vanish in bf16");
        TensorAssert.AreEqual(module.get_buffer("lora_biases")!, bias);
        module.to(ScalarType.Float64);
        Assert.That(module.get_buffer("lora_biases")!.dtype, Is.EqualTo(ScalarType.Float64));
        module.to(ScalarType.Float32);
        TensorAssert.AreEqual(module.get_buffer("lora_biases")!, bias);
        Assert.That(module.state_dict().Keys, Does.Contain("lora_biases"));
        Assert.That(module.call(randn(2, DIn)).shape, Is.EqualTo(new long[] { 2, DOut }));
    }

    [Test]
    public void Dropout_OnlyInTrainingAndByTheSeed([ValueSource(nameof(Configurations))] AdapterConfig config, [Values] AdapterImplementation implementation)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(WithDropout(config, 0.5));
        module.Implementation = implementation;
        Tensor x = randn(9, DIn);
        Tensor Run()
        {
            manual_seed(8);
            return module.call(x);
        }
        module.eval();
        TensorAssert.AreEqual(module.call(x), module.call(x), "evaluation");
        Tensor evaluation = module.call(x);
        module.train();
        TensorAssert.AreEqual(Run(), Run(), "same seed");
        Assert.That((Run() - module.call(x)).abs().max().item<float>(), Is.GreaterThan(0), "the next draw");
        Assert.That((Run() - evaluation).abs().max().item<float>(), Is.GreaterThan(0), "training");
    }

    [Test]
    public void MergedCoreDropout_Fused_Throws()
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(new CoMoLConfig { Rank = 4, MergedCoreDropout = 0.1 });
        Assert.That(() => module.call(randn(2, DIn)), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("Reference"));
        module.Implementation = AdapterImplementation.Reference;
        Assert.That(module.call(randn(2, DIn)).shape, Is.EqualTo(new long[] { 2, DOut }));
    }

    [Test]
    public void Scopes_ModuleSurvivesItsScopeAndForwardLeavesOneTensor([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        AdapterLinear module;
        using (NewDisposeScope())
            module = Wrap(config);
        using (module)
        {
            Assert.That(module.state_dict().Values.Select(t => t.IsInvalid), Is.All.False);
            using Tensor x = randn(4, DIn, requires_grad: true);
            using (module.call(x))
            {
            }
            long before = Tensor.TotalCount;
            using (Tensor y = module.call(x))
                Assert.That(Tensor.TotalCount - before, Is.EqualTo(1).Or.EqualTo(2), "the result, and TorchSharp's hidden copy of a function's output");
            using (var outer = NewDisposeScope())
            {
                Tensor y;
                using (NewDisposeScope())
                    y = module.call(x).MoveToOuterDisposeScope();
                Assert.That(y.IsInvalid, Is.False);
                y.sum().backward();
                MoeFunctional.ThrowPendingBackwardError();
            }
        }
    }

    [Test]
    public void UpdateRouterBias_CountsTrainingOnlyAndMovesAgainstTheLoad()
    {
        using var scope = NewDisposeScope();
        using var module = new SMoRALinear(nn.Linear(DIn, DOut), new SMoRAConfig { Rank = 4, ActiveRanks = 1, BiasUpdateRate = 0.5 });
        using (no_grad())
        {
            // Rank 2 wins for every positive x.
            module.get_parameter("lora_router.weight")!.fill_(-1);
            module.get_parameter("lora_router.weight")![2] = 1;
        }
        Tensor x = ones(6, DIn);
        module.eval();
        module.call(x);
        Assert.That(module.GetLoadCounts(), Is.EqualTo(new int[4]));
        module.UpdateRouterBias();
        Assert.That(module.get_buffer("lora_biases")!.count_nonzero().item<long>(), Is.Zero, "nothing was counted");
        module.train();
        module.call(x);
        module.call(x);
        Assert.That(module.GetLoadCounts(), Is.EqualTo(new[] { 0, 0, 12, 0 }));
        module.UpdateRouterBias();
        Assert.That(module.get_buffer("lora_biases")!.data<float>().ToArray(), Is.EqualTo(new[] { 0.5f, 0.5f, -0.5f, 0.5f }));
        Assert.That(module.GetLoadCounts(), Is.EqualTo(new int[4]));
    }

    [Test]
    public void UpdateRouterBias_OnAModel_ReachesEveryLayer()
    {
        using var scope = NewDisposeScope();
        using var model = new TestModel();
        AdapterHandle handle = model.AddAdapter(new SMoRAConfig { Rank = 4, ActiveRanks = 1, BiasUpdateRate = 0.5 });
        model.call(randn(7, 6));
        model.UpdateRouterBiases();
        foreach ((string path, AdapterLinear layer) in handle.Layers)
            Assert.That(layer.get_buffer("lora_biases")!.count_nonzero().item<long>(), Is.GreaterThan(0), path);
    }

    [Test]
    public void UpdateRouterBias_GateWithoutBias_Throws()
    {
        using var module = new SMoRALinear(nn.Linear(DIn, DOut), new SMoRAConfig { Gate = SMoRAGate.SoftmaxOverSelected });
        Assert.That(module.HasLoadBias, Is.False);
        Assert.That(module.UpdateRouterBias, Throws.InvalidOperationException);
    }

    [Test]
    public void TrackRouting_CountsBothModes([Values] AdapterImplementation implementation)
    {
        using var scope = NewDisposeScope();
        using var smora = (SMoRALinear)Wrap(new SMoRAConfig { Rank = 8, ActiveRanks = 3 });
        using var comol = (CoMoLLinear)Wrap(new CoMoLConfig { Rank = 4, Experts = 3 });
        (smora.Implementation, comol.Implementation) = (implementation, implementation);
        Tensor x = randn(2, 5, DIn);
        smora.call(x);
        Assert.That(smora.GetRoutingTotals(), Is.EqualTo(new double[8]), "off by default");
        (smora.TrackRouting, comol.TrackRouting) = (true, true);
        smora.eval();
        smora.call(x);
        comol.call(x);
        Assert.That(smora.GetRoutingTotals().Sum(), Is.EqualTo(30));
        Assert.That(comol.GetRoutingTotals().Sum(), Is.EqualTo(10).Within(1e-4));
        Assert.That(smora.RouteCount, Is.EqualTo(8));
        Assert.That(comol.RouteCount, Is.EqualTo(3));
        smora.ResetRoutingTotals();
        Assert.That(smora.GetRoutingTotals(), Is.EqualTo(new double[8]));
    }

    [Test]
    public void Forward_WrongInput_IsNamed([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config);
        Assert.That(() => module.call(randn(3, DIn + 1)), Throws.ArgumentException.With.Message.Contains("[3, 12]").And.Message.Contains("11"));
        Assert.That(() => module.call(tensor(1f)), Throws.ArgumentException);
        Assert.That(() => module.call(randn(3, DIn, dtype: ScalarType.Float64)), Throws.ArgumentException.With.Message.Contains("Float64"));
        Assert.That(() => module.Implementation = (AdapterImplementation)5, Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void Sequential_InferenceMode_Works([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(config);
        using var model = nn.Sequential(("a", module), ("act", nn.Tanh()));
        Tensor x = randn(3, DIn);
        Tensor expected = module.call(x).tanh();
        using (inference_mode())
            TensorAssert.AreEqual(model.call(x), expected);
        using (no_grad())
            TensorAssert.AreEqual(model.call(x), expected);
    }
}
