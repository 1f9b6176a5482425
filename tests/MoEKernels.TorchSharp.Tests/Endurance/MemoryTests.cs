using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Memory and tensor counts stay flat over many steps.</summary>
public sealed class MemoryTests
{
    private const long Tokens = 8;
    private const long Width = 256;

    public enum Workload
    {
        Gate,
        SMoRA,
        CoMoL,
        LoRA,
    }

    [Test]
    public void TrainingSteps_20000_StayFlat([Values] Workload step) => RunFlat(step, 20_000);

    [Test]
    [Explicit("Takes minutes: the long form of the test above, to be run by hand.")]
    public void TrainingSteps_100000_StayFlat([Values] Workload step) => RunFlat(step, 100_000);

    [Test]
    public void TrainingSteps_WithoutScopes_LeaveNothingAfterCollection([Values] Workload step)
    {
        (Action run, IDisposable owner) = Make(step, useScopes: false);
        using (owner)
        {
            for (int i = 0; i < 50; i++)
                run();
            long before = CountAfterCollection();
            for (int i = 0; i < 500; i++)
                run();
            // What backward returned last stays rooted until the next one.
            Assert.That(CountAfterCollection(), Is.LessThanOrEqualTo(before + 2));
        }
    }

    private static void RunFlat(Workload step, int steps)
    {
        (Action run, IDisposable owner) = Make(step, useScopes: true);
        using (owner)
        {
            for (int i = 0; i < 2000; i++)
                run();
            long tensors = Tensor.TotalCount;
            long memory = ResidentBytes();
            for (int i = 0; i < steps; i++)
                run();
            MoeFunctional.ThrowPendingBackwardError();
            Assert.That(Tensor.TotalCount, Is.EqualTo(tensors), "live tensors");
            // One leaked activation per step would be steps x 8 KiB, 160 MiB and more.
            Assert.That((ResidentBytes() - memory) / (1024.0 * 1024), Is.LessThan(40), "MiB of growth");
        }
    }

    private static (Action Run, IDisposable Owner) Make(Workload step, bool useScopes)
    {
        manual_seed(1);
        Tensor x = randn(Tokens, Width).DetachFromDisposeScope();
        nn.Module? module = null;
        Func<Tensor, Tensor> function;
        switch (step)
        {
            case Workload.Gate:
                function = input =>
                {
                    using GateResult result = MoeFunctional.Gate(input, 4, new GateOptions { Normalize = GateNormalize.SumToOne }, withLogSumExp: true);
                    using Tensor sum = result.LogSumExp!.sum();
                    using Tensor weights = result.Weights.sum();
                    return sum + weights;
                };
                break;
            case Workload.SMoRA:
                var smora = new SMoRALinear(nn.Linear(Width, Width), new SMoRAConfig { Rank = 8, ActiveRanks = 2, Dropout = 0.1 });
                module = smora;
                function = input =>
                {
                    Tensor y = smora.call(input);
                    smora.UpdateRouterBias();
                    return y;
                };
                break;
            case Workload.CoMoL:
                var comol = new CoMoLLinear(nn.Linear(Width, Width), new CoMoLConfig { Rank = 4, Experts = 3 });
                module = comol;
                function = comol.call;
                break;
            default:
                var lora = new LoRALinear(nn.Linear(Width, Width), new LoRAConfig { Rank = 4, Dropout = 0.1 });
                module = lora;
                function = lora.call;
                break;
        }

        void Run()
        {
            using IDisposable? scope = useScopes ? NewDisposeScope() : null;
            using Tensor leaf = x.detach().requires_grad_();
            using Tensor y = function(leaf);
            using Tensor loss = y.sum();
            loss.backward();
            leaf.grad?.Dispose();
            module?.zero_grad();
        }
        return (Run, new Owner(x, module));
    }

    private static long CountAfterCollection()
    {
        for (int i = 0; i < 4; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
        return Tensor.TotalCount;
    }

    private static long ResidentBytes()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        return process.WorkingSet64;
    }

    private sealed class Owner(Tensor x, nn.Module? module) : IDisposable
    {
        public void Dispose()
        {
            x.Dispose();
            module?.Dispose();
        }
    }
}
