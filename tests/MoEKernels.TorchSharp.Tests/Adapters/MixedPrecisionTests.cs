using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Half-precision activations and base weights with f32 master adapters.</summary>
public sealed class MixedPrecisionTests
{
    private const long DIn = 12;
    private const long DOut = 8;

    private static IEnumerable<AdapterConfig> Configurations() =>
    [
        new LoRAConfig { Rank = 4, Alpha = 6 },
        new LoRAConfig { Rank = 4, Alpha = 6, UseDora = true },
        new LoRAConfig { Rank = 3, Alpha = 6, InitialWeights = LoRAInit.Pissa },
        new LoHaConfig { Rank = 3, Alpha = 5 },
        new LoKrConfig { Rank = 1, Alpha = 2 },
        new SMoRAConfig { Rank = 8, ActiveRanks = 3 },
        new CoMoLConfig { Rank = 4, Experts = 3, Dropout = 0, CoreDropout = 0 },
        new CoMoLConfig { Rank = 4, Experts = 3, Router = CoreRouter.Input, Dropout = 0, CoreDropout = 0 },
    ];

    private static AdapterLinear Wrap(AdapterConfig config, ScalarType type)
    {
        manual_seed(17);
        // The same numbers in every type: those of bf16, which f16 also has at this size.
        Linear layer = nn.Linear(DIn, DOut, dtype: ScalarType.Float64);
        layer.to(ScalarType.BFloat16);
        layer.to(type);
        AdapterLinear module = config.CreateModule(layer);
        manual_seed(18);
        using var noGrad = no_grad();
        foreach ((_, Parameter parameter) in module.AdapterParameters())
            parameter.copy_(randn(parameter.shape) * 0.4);
        return module;
    }

    [Test]
    public void ForwardAndBackward_EqualDoublePrecision(
        [ValueSource(nameof(Configurations))] AdapterConfig config,
        [Values(ScalarType.BFloat16, ScalarType.Float16)] ScalarType type,
        [Values] AdapterImplementation implementation)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear mixed = Wrap(config, type), exact = Wrap(config, ScalarType.Float64);
        mixed.Implementation = implementation;
        Tensor x = randn(2, 5, DIn).to(ScalarType.BFloat16), weights = randn(2, 5, DOut).to(ScalarType.BFloat16);
        (Tensor Y, Tensor Dx) Run(AdapterLinear module, ScalarType activations)
        {
            Tensor leaf = x.to(activations, copy: true).requires_grad_();
            Tensor y = module.call(leaf);
            y.backward([weights.to(activations)]);
            MoeFunctional.ThrowPendingBackwardError();
            return (y, leaf.grad!);
        }
        (Tensor y, Tensor dx) = Run(mixed, type);
        (Tensor expectedY, Tensor expectedDx) = Run(exact, ScalarType.Float64);
        Assert.That((y.dtype, dx.dtype), Is.EqualTo((type, type)));
        // Base and adapter are each rounded to the activations' type, and so is their sum.
        double rounding = type == ScalarType.BFloat16 ? 1.0 / 256 : 1.0 / 2048;
        // DoRA adds a multiple of W x to W x: each is rounded, and both are larger than their sum.
        double roundings = config is LoRAConfig { UseDora: true } ? 8 : 2;
        TensorAssert.AreCloseToScale(y, expectedY, roundings * rounding, "y");
        TensorAssert.AreCloseToScale(dx, expectedDx, roundings * rounding, "dx");
        bool anyIsFine = false;
        foreach (((string name, Parameter parameter), (_, Parameter expected)) in mixed.AdapterParameters().Zip(exact.AdapterParameters()))
        {
            Assert.That((parameter.dtype, parameter.grad!.dtype), Is.EqualTo((ScalarType.Float32, ScalarType.Float32)), name);
            // DoRA's lengths see W x in the activations' type.
            TensorAssert.AreCloseToScale(parameter.grad, expected.grad, name == "lora_magnitude_vector" ? rounding : 1e-5, name);
            anyIsFine |= parameter.grad.ne(parameter.grad.to(type).to(ScalarType.Float32)).any().item<bool>();
        }
        Assert.That(anyIsFine, Is.True, "gradients of single precision, not rounded to the activations' type on the way");
        Assert.That(mixed.BaseLayer.weight.grad, Is.Null);
    }

    [Test]
    public void Forward_InputOfAnotherTypeThanTheBase_IsNamed([ValueSource(nameof(Configurations))] AdapterConfig config)
    {
        using var scope = NewDisposeScope();
        using AdapterLinear single = Wrap(config, ScalarType.Float32), half = Wrap(config, ScalarType.BFloat16);
        Assert.That(() => single.call(randn(3, DIn).to(ScalarType.BFloat16)),
            Throws.ArgumentException.With.Message.Contains("BFloat16").And.Message.Contains("expected Float32"));
        Assert.That(() => half.call(randn(3, DIn)), Throws.ArgumentException.With.Message.Contains("Float32").And.Message.Contains("expected BFloat16"));
    }

    [Test]
    public void ToKeepingAdapters_LeavesTheAdapterAsItIs([ValueSource(nameof(Configurations))] AdapterConfig config, [Values("default", "named")] string name)
    {
        using var scope = NewDisposeScope();
        using var model = new TestBlock(12);
        AdapterHandle handle = model.AddAdapter(name, config with { TargetModules = ["query", "up"] });
        AdapterHandle second = model.AddAdapter("second", new LoRAConfig { Rank = 2, TargetModules = ["query"], ModulesToSave = ["down"] });
        model.SetAdapter(name, "second");
        var own = handle.AdapterParameters().Concat(second.AdapterParameters().Where(p => !p.name.StartsWith("mlp.down", StringComparison.Ordinal))).ToArray();
        Tensor[] values = [.. own.Select(p => p.parameter.detach().clone())];
        string[] keys = [.. model.state_dict().Keys.Order(StringComparer.Ordinal)];
        string[] buffers = [.. handle.NamedTensors().Where(t => t.Tensor is not Parameter).Select(t => t.Name)];

        Assert.That(model.ToKeepingAdapters(ScalarType.BFloat16), Is.SameAs(model));
        Assert.That(model.state_dict().Keys.Order(StringComparer.Ordinal), Is.EqualTo(keys));
        foreach (((string path, Parameter parameter), Tensor value) in own.Zip(values))
        {
            Assert.That(parameter.dtype, Is.EqualTo(ScalarType.Float32), path);
            TensorAssert.AreEqual(parameter, value, path);
        }
        Assert.That(handle.AdapterParameters().Concat(second.AdapterParameters().Where(p => !p.name.StartsWith("mlp.down", StringComparison.Ordinal))).Select(p => p.parameter),
            Is.EqualTo(own.Select(p => p.parameter)).Using<Parameter>(ReferenceEquals), "an optimiser's parameters are still the model's");
        Assert.That(handle.NamedTensors().Where(t => buffers.Contains(t.Name)).Select(t => t.Tensor.dtype), Is.All.EqualTo(ScalarType.Float32));
        var adapterHandles = own.Select(p => p.parameter.Handle).ToHashSet();
        Assert.That(model.parameters().Where(p => !adapterHandles.Contains(p.Handle)).Select(p => p.dtype), Is.All.EqualTo(ScalarType.BFloat16), "the base, and modules to save");

        Tensor y = model.call(randn(3, 12).to(ScalarType.BFloat16));
        Assert.That(y.dtype, Is.EqualTo(ScalarType.BFloat16));
        y.sum().backward();
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(own.Select(p => p.parameter.grad!.dtype), Is.All.EqualTo(ScalarType.Float32));

        model.ToKeepingAdapters(ScalarType.Float32);
        foreach (((string path, Parameter parameter), Tensor value) in own.Zip(values))
            TensorAssert.AreEqual(parameter, value, path);
        // No f32 adapter below f64: it follows.
        model.ToKeepingAdapters(ScalarType.Float64);
        Assert.That(model.parameters().Select(p => p.dtype), Is.All.EqualTo(ScalarType.Float64));
        Assert.That(model.call(randn(3, 12, dtype: ScalarType.Float64)).dtype, Is.EqualTo(ScalarType.Float64));
        model.ToKeepingAdapters(ScalarType.Float16);
        Assert.That(handle.Layers.Values.SelectMany(layer => layer.AdapterParameters()).Select(p => p.parameter.dtype), Is.All.EqualTo(ScalarType.Float32));
        model.to(ScalarType.BFloat16);
        Assert.That(model.parameters().Select(p => p.dtype), Is.All.EqualTo(ScalarType.BFloat16), "plain to() takes everything, also afterwards");
    }

    [Test]
    public void ToKeepingAdapters_OneModuleWithADevice_ConvertsTheBaseAlone()
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 2 }, ScalarType.Float32);
        module.Merge();
        Assert.That(module.ToKeepingAdapters(ScalarType.BFloat16, CPU), Is.SameAs(module));
        Assert.That(module.BaseLayer.weight.dtype, Is.EqualTo(ScalarType.BFloat16));
        Assert.That(module.AdapterParameters().Select(p => p.parameter.dtype), Is.All.EqualTo(ScalarType.Float32));
        module.Unmerge();
        Assert.That(module.call(randn(3, DIn).to(ScalarType.BFloat16)).dtype, Is.EqualTo(ScalarType.BFloat16));
    }

    [Test]
    public void ToKeepingAdapters_HalfPrecisionAdapters_StayWhereTheyCanServe()
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 2, ParameterType = ScalarType.BFloat16 }, ScalarType.BFloat16);
        ScalarType Own() => module.AdapterParameters().First().parameter.dtype;
        module.ToKeepingAdapters(ScalarType.BFloat16);
        Assert.That(Own(), Is.EqualTo(ScalarType.BFloat16));
        module.ToKeepingAdapters(ScalarType.Float16);
        Assert.That(Own(), Is.EqualTo(ScalarType.Float32), "bf16 below f16");
    }

    [Test]
    public void ToKeepingAdapters_WithoutAdapters_IsTo_AndAnIntegerTypeThrows()
    {
        using var model = new TestBlock(6);
        Assert.That(() => model.ToKeepingAdapters(ScalarType.Int32), Throws.ArgumentException.With.Message.Contains("Int32"));
        Assert.That(model.parameters().Select(p => p.dtype), Is.All.EqualTo(ScalarType.Float32));
        model.ToKeepingAdapters(ScalarType.BFloat16);
        Assert.That(model.parameters().Select(p => p.dtype), Is.All.EqualTo(ScalarType.BFloat16));
    }

    [Test]
    public void Training_StepsBelowTheBasesPrecision_AddUp()
    {
        using var scope = NewDisposeScope();
        using AdapterLinear module = Wrap(new LoRAConfig { Rank = 2 }, ScalarType.BFloat16);
        Parameter b = module.get_parameter("lora_B.weight")!;
        using (no_grad())
            b.fill_(1);
        Tensor x = ones(1, DIn, dtype: ScalarType.BFloat16);
        using var optimizer = optim.SGD([b], 1e-4);
        for (int step = 0; step < 16; step++)
        {
            using var inner = NewDisposeScope();
            optimizer.zero_grad();
            module.call(x).sum().backward();
            // The step alone matters here: every element 1e-4.
            b.grad!.fill_(1);
            optimizer.step();
        }
        TensorAssert.AreClose(b, full_like(b, 1 - 16e-4), 1e-6, 0);
    }

    [Test]
    public void SaveAndLoad_KeepTheFilesTypeAndTheModulesType()
    {
        using var scope = NewDisposeScope();
        string folder = Directory.CreateTempSubdirectory("moek").FullName;
        try
        {
            using TestBlock single = new(6), half = new(6);
            half.load_state_dict(single.state_dict());
            half.to(ScalarType.BFloat16);
            single.to(ScalarType.BFloat16);
            var config = new LoRAConfig { Rank = 2, TargetModules = ["query"] };
            AdapterHandle master = single.AddAdapter("a", config), rounded = half.AddAdapter("a", config with { ParameterType = ScalarType.BFloat16 });
            foreach ((_, Parameter parameter) in master.AdapterParameters())
                nn.init.normal_(parameter);
            string path = Path.Combine(folder, "f32.safetensors");
            master.Save(path);
            IReadOnlyDictionary<string, Tensor> saved = SafetensorsFile.Load(path);
            Assert.That(saved.Values.Select(t => t.dtype), Is.All.EqualTo(ScalarType.Float32));
            rounded.Load(path);
            foreach (((string name, Parameter got), (_, Parameter expected)) in rounded.AdapterParameters().Zip(master.AdapterParameters()))
            {
                Assert.That(got.dtype, Is.EqualTo(ScalarType.BFloat16), name);
                TensorAssert.AreEqual(got, expected.to(ScalarType.BFloat16), name);
            }
            string halfPath = Path.Combine(folder, "bf16.safetensors");
            rounded.Save(halfPath);
            Assert.That(SafetensorsFile.Load(halfPath).Values.Select(t => t.dtype), Is.All.EqualTo(ScalarType.BFloat16));
            master.Load(halfPath);
            Assert.That(master.AdapterParameters().Select(p => p.parameter.dtype), Is.All.EqualTo(ScalarType.Float32));

            using PeftAdapter peft = PeftAdapter.Extract(rounded);
            Assert.That(peft.Tensors.Values.Select(t => t.dtype), Is.All.EqualTo(ScalarType.BFloat16));
            AdapterHandle applied = peft.Apply(half, "again");
            Assert.That(applied.AdapterParameters().Select(p => p.parameter.dtype), Is.All.EqualTo(ScalarType.Float32), "as PEFT's autocast_adapter_dtype");
            Tensor x = randn(3, 6).to(ScalarType.BFloat16);
            single.SetAdapter("a");
            TensorAssert.AreEqual(half.call(x), single.call(x));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
