using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>What a step of a memory test does.</summary>
public enum Workload
{
    Gate,
    SMoRA,
    CoMoL,
    LoRA,
    Recompute,
}

/// <summary>Training steps, and how much memory many of them leave behind.</summary>
internal static class MemoryProgram
{
    private const long Tokens = 8;
    private const long Width = 256;

    /// <summary>Runs a quarter of the steps to warm up, then all of them. Growth of live tensors and of resident memory in KiB.</summary>
    public static (long Tensors, long KiB) MeasureGrowth(Workload workload, int steps)
    {
        (Action run, IDisposable owner) = Make(workload, useScopes: true);
        using (owner)
        {
            for (int i = 0; i < steps / 4; i++)
                run();
            long tensors = Tensor.TotalCount;
            long memory = ResidentBytes();
            for (int i = 0; i < steps; i++)
                run();
            MoeFunctional.ThrowPendingBackwardError();
            return (Tensor.TotalCount - tensors, (ResidentBytes() - memory) / 1024);
        }
    }

    /// <summary>Resident memory in KiB that the graph of three parts, each of four operations on 40 MiB, keeps between forward and backward.</summary>
    /// <remarks>The C library gives blocks of more than 32 MiB back at once.</remarks>
    public static long MeasureActivations(bool recompute)
    {
        const int Parts = 3;
        static Tensor Part(Tensor input)
        {
            using var scope = NewDisposeScope();
            return input.tanh().tanh().tanh().tanh().MoveToOuterDisposeScope();
        }
        long Run()
        {
            using var scope = NewDisposeScope();
            Tensor x = ones(1024, 10240, requires_grad: true);
            long before = ResidentBytes();
            Tensor y = x;
            for (int i = 0; i < Parts; i++)
            {
                using Tensor? input = i == 0 ? null : y;
                y = recompute ? Recompute.Run(Part, y) : Part(y);
            }
            long kept = ResidentBytes() - before;
            y.sum().backward();
            MoeFunctional.ThrowPendingBackwardError();
            return kept / 1024;
        }
        return Run();
    }

    public static (Action Run, IDisposable Owner) Make(Workload workload, bool useScopes)
    {
        manual_seed(1);
        Tensor x = randn(Tokens, Width).DetachFromDisposeScope();
        nn.Module? module = null;
        Func<Tensor, Tensor> function;
        switch (workload)
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
            case Workload.Recompute:
                var part = new SMoRALinear(nn.Linear(Width, Width), new SMoRAConfig { Rank = 8, ActiveRanks = 2, Dropout = 0.1 });
                module = part;
                function = input => Recompute.Run(part, input);
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
