using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Batches whose rows use different adapters.</summary>
public sealed class RowAdapterTests
{
    private const long Width = 8;

    private static readonly Dictionary<string, AdapterConfig> Kinds = new()
    {
        ["lora"] = new LoRAConfig { Rank = 2, Alpha = 6, Dropout = 0.5 },
        ["rslora"] = new LoRAConfig { Rank = 5, RankStabilized = true, RankPattern = new Dictionary<string, long> { ["query"] = 3 } },
        ["pissa"] = new LoRAConfig { Rank = 3, InitialWeights = LoRAInit.Pissa, TargetModules = ["query", "up"] },
        ["milora"] = new LoRAConfig { Rank = 2, InitialWeights = LoRAInit.Milora, TargetModules = ["query"] },
        ["dora"] = new LoRAConfig { Rank = 2, UseDora = true, TargetModules = ["value", "down"] },
        ["loha"] = new LoHaConfig { Rank = 2 },
        ["lokr"] = new LoKrConfig { Rank = 1, TargetModules = ["query"] },
        ["smora"] = new SMoRAConfig { Rank = 8, ActiveRanks = 3 },
        ["comol"] = new CoMoLConfig { Rank = 4, Experts = 3 },
    };

    private static TestBlock NewModel(IEnumerable<string> names, ScalarType type = ScalarType.Float64)
    {
        manual_seed(6);
        var model = new TestBlock(Width);
        model.to(type);
        foreach (string name in names)
        {
            AdapterHandle handle = model.AddAdapter(name, Kinds[name]);
            using var noGrad = no_grad();
            foreach ((_, Parameter parameter) in handle.AdapterParameters())
                parameter.add_(randn_like(parameter) * 0.3);
        }
        model.eval();
        return model;
    }

    /// <summary>Every row with its own adapter, one after the other.</summary>
    private static Tensor OneByOne(TestBlock model, string?[] rows, Tensor x)
    {
        var outputs = new List<Tensor>();
        for (int row = 0; row < rows.Length; row++)
        {
            Tensor own = x.narrow(0, row, 1);
            if (rows[row] is not { } name)
            {
                using (model.WithoutAdapters())
                    outputs.Add(model.call(own));
                continue;
            }
            model.SetAdapter(name);
            outputs.Add(model.call(own));
        }
        return cat(outputs, 0);
    }

    [Test]
    public void UseAdapters_EqualsEachRowWithItsOwn([Values] bool tokens, [Values] AdapterImplementation implementation)
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(Kinds.Keys);
        foreach (AdapterHandle handle in model.Adapters())
            handle.SetImplementation(implementation);
        string?[] rows = ["lora", null, "pissa", "comol", "rslora", "lora", "dora", "milora", "smora", "loha", null, "lokr", "smora"];
        Tensor x = tokens ? randn(rows.Length, 4, Width, dtype: ScalarType.Float64) : randn(rows.Length, Width, dtype: ScalarType.Float64);
        Tensor expected = OneByOne(model, rows, x);
        // What is in use otherwise does not matter.
        model.SetAdapter("loha");
        using (model.UseAdapters(rows))
        {
            TensorAssert.AreClose(model.call(x), expected, 1e-11, 1e-11);
            using (no_grad())
                TensorAssert.AreClose(model.call(x), expected, 1e-11, 1e-11, "without gradients, with what was made before");
            using (model.WithoutAdapters())
                TensorAssert.AreClose(model.call(x), OneByOne(model, new string?[rows.Length], x), 1e-11, 1e-11, "all off");
        }
        TensorAssert.AreClose(model.call(x.narrow(0, 9, 1)), expected.narrow(0, 9, 1), 1e-11, 1e-11, "afterwards");
    }

    [TestCase(ScalarType.Float32, 1e-5)]
    [TestCase(ScalarType.BFloat16, 2e-2)]
    public void UseAdapters_OtherTypes_EqualEachRowWithItsOwn(ScalarType type, double tolerance)
    {
        using var scope = NewDisposeScope();
        string[] names = ["lora", "rslora", "comol"];
        using TestBlock model = NewModel(names, type);
        // One adapter in half precision beside those in single.
        model.AddAdapter("half", new LoRAConfig { Rank = 3, ParameterType = type });
        model.eval();
        using (no_grad())
        {
            foreach ((_, Parameter parameter) in model.GetAdapter("half").AdapterParameters())
                nn.init.normal_(parameter, 0, 0.3);
        }
        string?[] rows = ["rslora", "lora", "half", "comol", null];
        Tensor x = randn(rows.Length, 3, Width).to(type);
        Tensor expected = OneByOne(model, rows, x);
        using (model.UseAdapters(rows))
            TensorAssert.AreCloseToScale(model.call(x), expected, tolerance);
    }

    [Test]
    public void UseAdapters_GradientsOfTheInput_EqualEachRowWithItsOwn()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(Kinds.Keys);
        string?[] rows = [.. Kinds.Keys, null];
        Tensor x = randn(rows.Length, 2, Width, dtype: ScalarType.Float64), weights = randn_like(x);
        Tensor Gradient(Func<Tensor, Tensor> run)
        {
            Tensor leaf = x.detach().clone().requires_grad_();
            run(leaf).backward([weights]);
            MoeFunctional.ThrowPendingBackwardError();
            return leaf.grad!;
        }
        Tensor expected = Gradient(leaf => OneByOne(model, rows, leaf));
        model.SetAdapter([.. Kinds.Keys]);
        using (model.UseAdapters(rows))
            TensorAssert.AreClose(Gradient(model.call), expected, 1e-10, 1e-10);
    }

    [Test]
    public void UseAdapters_ByNumber_IsByName()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(["lora", "rslora"]);
        Tensor x = randn(4, Width, dtype: ScalarType.Float64), byName, byNumber;
        using (model.UseAdapters(["rslora", null, "lora", "rslora"]))
            byName = model.call(x);
        using (model.UseAdapters(["lora", "rslora"], [1, -1, 0, 1]))
            byNumber = model.call(x);
        TensorAssert.AreEqual(byNumber, byName);
    }

    [Test]
    public void UseAdapters_NaNInOneAdapter_StaysInItsRows()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(["lora", "rslora"]);
        string?[] rows = ["lora", "rslora", null];
        Tensor x = randn(3, 2, Width, dtype: ScalarType.Float64), before;
        using (model.UseAdapters(rows))
            before = model.call(x);
        using (no_grad())
        {
            foreach ((_, Parameter parameter) in model.GetAdapter("rslora").AdapterParameters())
                parameter.fill_(double.NaN);
        }
        using (model.UseAdapters(rows))
        {
            Tensor after = model.call(x);
            TensorAssert.AreEqual(after[0], before[0]);
            TensorAssert.AreEqual(after[2], before[2]);
            Assert.That(after[1].isnan().all().item<bool>(), Is.True);
        }
    }

    [Test]
    public void UseAdapters_MoreRanksThanOneCallTakes_AreSeveral()
    {
        using var scope = NewDisposeScope();
        using var model = new TestBlock(Width);
        string?[] rows = ["a", "b", "c", null];
        foreach ((string? name, long rank) in rows.Zip(new long[] { 1500, 1000, 2500 }))
        {
            AdapterHandle handle = model.AddAdapter(name!, new LoRAConfig { Rank = rank, TargetModules = ["query"] });
            using var noGrad = no_grad();
            foreach ((_, Parameter parameter) in handle.AdapterParameters())
                nn.init.normal_(parameter);
        }
        model.to(ScalarType.Float64);
        model.eval();
        Tensor x = randn(4, Width, dtype: ScalarType.Float64);
        Tensor expected = OneByOne(model, rows, x);
        using (model.UseAdapters(rows))
            TensorAssert.AreClose(model.call(x), expected, 1e-10, 1e-10);
    }

    [Test]
    public void UseAdapters_Nested_DisposedInAnyOrder_AndConvertedMeanwhile()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(["lora", "rslora"]);
        Tensor x = randn(1, Width, dtype: ScalarType.Float64);
        Tensor lora = OneByOne(model, ["lora"], x), rslora = OneByOne(model, ["rslora"], x), none = OneByOne(model, [null], x);
        IDisposable outer = model.UseAdapters(["lora"]), inner = model.UseAdapters(["rslora"]), last = model.UseAdapters([null]);
        TensorAssert.AreClose(model.call(x), none, 1e-12, 1e-12);
        last.Dispose();
        TensorAssert.AreClose(model.call(x), rslora, 1e-12, 1e-12);
        outer.Dispose();
        outer.Dispose();
        TensorAssert.AreClose(model.call(x), rslora, 1e-12, 1e-12);
        model.to(ScalarType.Float32);
        TensorAssert.AreCloseToScale(model.call(x.to(ScalarType.Float32)), rslora, 1e-5, "converted");
        model.to(ScalarType.Float64);
        inner.Dispose();
        TensorAssert.AreCloseToScale(model.call(x), rslora, 1e-5, "the newest is in use again");
    }

    [Test]
    public void UseAdapters_LeavesNoTensors()
    {
        using TestBlock model = NewModel(Kinds.Keys);
        using Tensor x = randn(3, 2, Width, dtype: ScalarType.Float64);
        void Run()
        {
            using var noGrad = no_grad();
            using (model.UseAdapters(["lora", "pissa", "comol"]))
            {
                model.call(x).Dispose();
                model.call(x).Dispose();
            }
        }
        Run();
        long before = Tensor.TotalCount;
        for (int i = 0; i < 10; i++)
            Run();
        // Fewer when a finaliser has freed what another test left.
        Assert.That(Tensor.TotalCount, Is.LessThanOrEqualTo(before));
    }

    [Test]
    public void UseAdapters_InferenceModeFirst_ThenGradients()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(["lora"]);
        Tensor x = randn(2, Width, dtype: ScalarType.Float64);
        using (model.UseAdapters(["lora", null]))
        {
            using (inference_mode())
                model.call(x);
            Tensor leaf = x.requires_grad_();
            model.call(leaf).sum().backward();
            MoeFunctional.ThrowPendingBackwardError();
            Assert.That(leaf.grad, Is.Not.Null);
        }
    }

    [Test]
    public void UseAdapters_Misuse_IsNamed()
    {
        using var scope = NewDisposeScope();
        using TestBlock model = NewModel(["lora", "rslora"]);
        Assert.That(() => model.UseAdapters(["lora", "spanish"]), Throws.ArgumentException.With.Message.Contains("'spanish'").And.Message.Contains("'rslora'"));
        Assert.That(() => model.UseAdapters([]), Throws.ArgumentException.With.Message.Contains("no row"));
        Assert.That(() => model.UseAdapters(["lora"], [0, 1]), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("row 1"));
        Assert.That(() => model.UseAdapters(["lora"], [-2]), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => model.UseAdapters(null!), Throws.ArgumentNullException);
        using var plain = new TestBlock(Width);
        Assert.That(() => plain.UseAdapters(["lora"]), Throws.InvalidOperationException.With.Message.Contains("no adapter"));

        model.train();
        Assert.That(() => model.UseAdapters(["lora"]), Throws.InvalidOperationException.With.Message.Contains("eval()"));
        model.eval();
        using (model.UseAdapters(["lora", null]))
        {
            Assert.That(() => model.call(randn(3, Width, dtype: ScalarType.Float64)), Throws.ArgumentException.With.Message.Contains("[3, 8]").And.Message.Contains("[2, .., 8]"));
            Assert.That(() => model.call(randn(Width, dtype: ScalarType.Float64)), Throws.ArgumentException.With.Message.Contains("[2, .., 8]"));
            Assert.That(() => model.AddAdapter("new", new LoRAConfig()), Throws.InvalidOperationException.With.Message.Contains("UseAdapters"));
            Assert.That(() => model.RemoveAdapter("lora"), Throws.InvalidOperationException.With.Message.Contains("UseAdapters"));
            Assert.That(() => model.MergeAndUnload("lora"), Throws.InvalidOperationException.With.Message.Contains("UseAdapters"));
            Assert.That(model.GetAdapter("rslora").Merge, Throws.InvalidOperationException.With.Message.Contains("UseAdapters"));
            model.train();
            Assert.That(() => model.call(randn(2, Width, dtype: ScalarType.Float64)), Throws.InvalidOperationException.With.Message.Contains("eval()"));
            model.eval();
        }
        AdapterHandle merged = model.GetAdapter("rslora");
        merged.Merge();
        Assert.That(() => model.UseAdapters(["lora"]), Throws.InvalidOperationException.With.Message.Contains("'rslora' is merged"));
        merged.Unmerge();
        using TestBlock other = NewModel(["milora"]);
        other.AddAdapter("whole", new LoRAConfig { TargetModules = ["query"], ModulesToSave = ["down"] });
        other.eval();
        Assert.That(() => other.UseAdapters(["milora"]), Throws.InvalidOperationException.With.Message.Contains("'whole' is in use"));
        other.SetAdapter("milora");
        Assert.That(() => other.UseAdapters(["milora", "whole"]), Throws.InvalidOperationException.With.Message.Contains("'whole'").And.Message.Contains("'mlp.down'"));
        other.UseAdapters(["milora"]).Dispose();
    }
}
