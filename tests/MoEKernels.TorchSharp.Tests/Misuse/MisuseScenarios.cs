using System.Reflection;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>
/// Misuse that would end the process if it went wrong, so each scenario runs in a process of its own. One that ends well prints
/// <see cref="Passed"/>.
/// </summary>
internal static class MisuseScenarios
{
    public const string Passed = "scenario passed";

    /// <summary>Names of all scenarios.</summary>
    public static IEnumerable<string> Names => typeof(MisuseScenarios)
        .GetMethods(BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.DeclaredOnly)
        .Where(method => method.GetCustomAttribute<ScenarioAttribute>() is not null)
        .Select(method => method.Name);

    public static void Run(string scenario)
    {
        using (NewDisposeScope())
            typeof(MisuseScenarios).GetMethod(scenario, BindingFlags.NonPublic | BindingFlags.Static)!.Invoke(null, null);
        Console.WriteLine(Passed);
    }

    [Scenario]
    private static void SavedInputChangedInPlace()
    {
        foreach (int which in new[] { 0, 1, 2, 3 })
        {
            Tensor[] t = RankInputs();
            Tensor changed = which == 0 ? t[0] * 1 : t[which];
            Tensor y = MoeFunctional.RankLora(which == 0 ? changed : t[0], t[1], t[2], t[3], 2, RankLoraOptions.Smora(4, 2), zeros(4)).Output;
            using (no_grad())
                changed.mul_(2);
            y.sum().backward();
            ExpectPending("modified by an inplace operation");
        }
        Tensor logits = randn(3, 4).requires_grad_() * 1;
        Tensor weights = MoeFunctional.Gate(logits, 2).Weights;
        logits.mul_(2);
        weights.sum().backward();
        ExpectPending("modified by an inplace operation");

        Tensor[] c = CoreInputs();
        Tensor merged = MoeFunctional.CoreMerge(c[0], c[1], c[2], c[3], c[4], new CoreMergeOptions { Scale = 1 }).Output;
        using (no_grad())
            c[3].mul_(2);
        merged.sum().backward();
        ExpectPending("modified by an inplace operation");
    }

    [Scenario]
    private static void SecondPassFailsInsideOfLibtorch()
    {
        Tensor Spoiled(Tensor t)
        {
            Tensor y = t.exp();
            Tensor z = y.square();
            if (Recompute.IsRecomputing)
                y.detach().add_(1);
            return z;
        }
        foreach (int losses in new[] { 0, 1 })
        {
            using var gate = new TopKGate(5, 4, 2) { ZLossFactor = losses };
            Tensor x = randn(3, 5).requires_grad_();
            Tensor y = Recompute.Run(t => Spoiled(t) + gate.call(t).Weights.sum(), x);
            (y.sum() + (gate.TakeAuxiliaryLoss() ?? zeros([]))).backward();
            ExpectPending("modified by an inplace operation");
            Check(x.grad is null, "no gradient");
        }
        // The input itself, changed before backward.
        Tensor input = randn(3, 5).requires_grad_() * 1;
        Tensor last = Recompute.Run(t => t.exp(), input);
        input.mul_(2);
        last.sum().backward();
        ExpectPending("modified by an inplace operation");
        // A second differentiation.
        Tensor leaf = randn(3, 5).requires_grad_();
        Recompute.Run(t => t.exp(), leaf).square().sum().backward(create_graph: true);
        ExpectPending("once");
    }

    [Scenario]
    private static void PendingFailureSurfacesInModules()
    {
        using var module = new SMoRALinear(nn.Linear(5, 3), new SMoRAConfig { Rank = 4, ActiveRanks = 2 });
        Tensor y = module.call(randn(2, 5));
        using (no_grad())
            module.get_parameter("lora_A.weight")!.mul_(2);
        y.sum().backward();
        Expect<MoeBackwardException>(() => module.call(randn(2, 5)), "gradients are missing");
        Check(module.call(randn(2, 5)).shape[1] == 3, "the module works again");
    }

    [Scenario]
    private static void GraphOfGradientsAskedFor()
    {
        foreach (Func<Tensor, Tensor> function in Functions())
        {
            Tensor x = randn(3, 5).requires_grad_();
            Tensor first = autograd.grad([function(x).sum()], [x], create_graph: true)[0];
            Check(!first.requires_grad, "the gradient carries no graph");
            ExpectPending("once");
            // The gradient itself is right; differentiating it again is an ordinary error.
            Expect<ExternalException>(() => first.square().sum().backward(), "does not require grad");
        }
        Tensor leaf = randn(3, 5).requires_grad_();
        Functions().First()(leaf).square().sum().backward(create_graph: true);
        ExpectPending("once");
    }

    [Scenario]
    private static void ContextDisposedBeforeBackward()
    {
        foreach (Func<Tensor, Tensor> function in Functions())
        {
            var context = new MoeContext(new MoeContextOptions { ThreadCount = 1 });
            MoeFunctional.CpuContext = context;
            Tensor x = randn(3, 5).requires_grad_();
            Tensor y = function(x);
            context.Dispose();
            y.sum().backward();
            MoeFunctional.CpuContext = null;
            ExpectPending("disposed");
            Check(x.grad is null, "no gradient");
        }
    }

    [Scenario]
    private static void WrongGradientShapeAndType()
    {
        foreach (Func<Tensor, Tensor> function in Functions())
        {
            Tensor x = randn(3, 5).requires_grad_();
            Expect<ExternalException>(() => function(x).backward([ones(7, 9)]), "");
            function(x).backward([ones_like(function(x)).to(ScalarType.Float64)]);
            MoeFunctional.ThrowPendingBackwardError();
        }
    }

    [Scenario]
    private static void BackwardTwice()
    {
        foreach (Func<Tensor, Tensor> function in Functions())
        {
            Tensor x = randn(3, 5).requires_grad_();
            Tensor y = function(x);
            y.backward([ones_like(y)], retain_graph: true);
            Tensor once = x.grad!.clone();
            y.backward([ones_like(y)]);
            MoeFunctional.ThrowPendingBackwardError();
            TensorAssert.AreClose(x.grad, once * 2, 1e-6, 1e-7);
        }
    }

    [Scenario]
    private static void InputsDisposedBeforeBackward()
    {
        foreach (Func<Tensor, Tensor> function in Functions())
        {
            Tensor x = randn(3, 5).requires_grad_();
            Tensor y;
            using (Tensor intermediate = x * 2)
                y = function(intermediate);
            y.sum().backward();
            MoeFunctional.ThrowPendingBackwardError();
            Check(x.grad is not null, "the graph keeps what it needs");
        }
    }

    [Scenario]
    private static void WrongArgumentsInALoop()
    {
        for (int i = 0; i < 200; i++)
        {
            Tensor[] t = RankInputs();
            Expect<ArgumentException>(() => MoeFunctional.RankLora(t[0], t[1], t[2], t[3], 9, RankLoraOptions.Smora(4, 2), zeros(4)), "k");
            Expect<ArgumentException>(() => MoeFunctional.Gate(t[0], 9), "k");
        }
        Expect<MoeNumericException>(() => MoeFunctional.Gate(full(2, 3, double.NaN).requires_grad_(), 1, new GateOptions { Flags = CallFlags.Strict }), "");
    }

    [Scenario]
    private static void TensorOnAnotherDevice()
    {
        Expect<NotSupportedException>(() => MoeFunctional.Gate(zeros(2, 3, device: META), 1), "meta");
        Expect<ArgumentException>(() => MoeFunctional.RankLora(randn(3, 5), zeros(4, 5, device: META), randn(3, 4), randn(4, 5), 2, RankLoraOptions.Smora(4, 2), zeros(4)), "a is on meta");
    }

    [Scenario]
    private static void BackwardAcrossThreads()
    {
        Tensor x = randn(3, 5).requires_grad_();
        Tensor[] outputs = [.. Functions().Select(function => function(x))];
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                foreach (Tensor y in outputs)
                    y.sum().backward();
                MoeFunctional.ThrowPendingBackwardError();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        Check(failure is null && x.grad is not null, failure?.ToString() ?? "no gradient");
    }

    [Scenario]
    private static void GarbageCollectionsDuringTraining()
    {
        using var stop = new CancellationTokenSource();
        var collector = new Thread(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                GC.Collect(2, GCCollectionMode.Forced, blocking: true);
                GC.WaitForPendingFinalizers();
            }
        });
        collector.Start();
        var expected = new Dictionary<int, Tensor>();
        Tensor fixedInput = randn(3, 5);
        for (int i = 0; i < 400; i++)
        {
            using var scope = NewDisposeScope();
            int which = 0;
            foreach (Func<Tensor, Tensor> function in Functions(seed: 4))
            {
                Tensor x = fixedInput.detach().clone().requires_grad_();
                function(x).sum().backward();
                if (expected.TryGetValue(which, out Tensor? gradient))
                    TensorAssert.AreEqual(x.grad!, gradient);
                else
                    expected.Add(which, x.grad!.clone().DetachFromDisposeScope());
                which++;
            }
        }
        stop.Cancel();
        collector.Join();
        MoeFunctional.ThrowPendingBackwardError();
    }

    [Scenario]
    private static void CollectionsDuringRecomputation()
    {
        using var stop = new CancellationTokenSource();
        var collector = new Thread(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                GC.Collect(2, GCCollectionMode.Forced, blocking: true);
                GC.WaitForPendingFinalizers();
            }
        });
        collector.Start();
        using var module = new SMoRALinear(nn.Linear(5, 5), new SMoRAConfig { Rank = 4, ActiveRanks = 2, Dropout = 0.2 });
        Tensor fixedInput = randn(3, 5);
        Tensor? expected = null;
        for (int i = 0; i < 400; i++)
        {
            using var scope = NewDisposeScope();
            manual_seed(7);
            Tensor x = fixedInput.detach().clone().requires_grad_();
            Recompute.Run(outer => Recompute.Run(module, outer).tanh(), Recompute.Run(module, x)).sum().backward();
            if (expected is null)
                expected = x.grad!.clone().DetachFromDisposeScope();
            else
                TensorAssert.AreEqual(x.grad!, expected);
        }
        stop.Cancel();
        collector.Join();
        MoeFunctional.ThrowPendingBackwardError();
    }

    /// <summary>Shows that the process really ends where nothing guards a backward, so that the other scenarios mean something.</summary>
    internal static void UnguardedBackwardThrows() => ThrowingFunction.apply(ones(2).requires_grad_()).sum().backward();

    private static IEnumerable<Func<Tensor, Tensor>> Functions(int seed = 1)
    {
        manual_seed(seed);
        Tensor[] rank = RankInputs();
        Tensor[] core = CoreInputs();
        Tensor bias = zeros(4);
        yield return x => MoeFunctional.Gate(x, 2).Weights;
        yield return x => MoeFunctional.RankLora(x, rank[1], rank[2], rank[3], 2, RankLoraOptions.Smora(4, 2), bias).Output;
        yield return x => MoeFunctional.CoreMerge(x, core[1], core[2], core[3], core[4], new CoreMergeOptions { Scale = 1 }).Output;
    }

    private static Tensor[] RankInputs() =>
        [.. new[] { randn(3, 5), randn(4, 5), randn(6, 4), randn(4, 5) }.Select(t => t.requires_grad_())];

    private static Tensor[] CoreInputs() =>
        [.. new[] { randn(3, 5), randn(4, 5), randn(6, 4), randn(2, 4, 4), randn(2, 4) }.Select(t => t.requires_grad_())];

    private static void ExpectPending(string message) => Expect<MoeBackwardException>(MoeFunctional.ThrowPendingBackwardError, message);

    private static void Expect<T>(Action action, string message)
        where T : Exception
    {
        try
        {
            action();
        }
        catch (T e) when (e.Message.Contains(message, StringComparison.OrdinalIgnoreCase))
        {
            return;
        }
        throw new InvalidOperationException($"Expected a {typeof(T).Name} with '{message}', got nothing.");
    }

    private static void Check(bool condition, string message)
    {
        if (!condition)
            throw new InvalidOperationException(message);
    }

    [AttributeUsage(AttributeTargets.Method)]
    private sealed class ScenarioAttribute : Attribute;

    private sealed class ThrowingFunction : autograd.SingleTensorFunction<ThrowingFunction>
    {
        public override string Name => nameof(ThrowingFunction);

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars) => ((Tensor)vars[0]) * 2;

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => throw new InvalidOperationException("on purpose");
    }
}
