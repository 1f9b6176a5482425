using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>One way to compute a workload, ready to be run again and again on the same operands.</summary>
internal abstract class Implementation(string name) : IDisposable
{
    /// <summary>Plain TorchSharp operations: the baseline.</summary>
    public const string Torch = "torch";

    /// <summary>Plain TorchSharp operations in the form of the method's published code.</summary>
    public const string TorchEinsum = "torch einsum";

    /// <summary>The fused op as an autograd function on tensors.</summary>
    public const string Fused = "fused";

    /// <summary>The fused op on raw addresses: what the kernels take without autograd and allocations.</summary>
    public const string Raw = "raw";

    public string Name { get; } = name;

    public abstract void Forward();

    public abstract void ForwardBackward();

    public void Run(Pass pass)
    {
        if (pass == Pass.Forward)
            Forward();
        else
            ForwardBackward();
    }

    /// <summary>Runs both passes and copies what they wrote: <c>y</c> of each, and every gradient.</summary>
    public abstract IReadOnlyList<(string Name, Tensor Value)> Evaluate();

    public abstract void Dispose();
}
