using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>A function on tensors that autograd differentiates.</summary>
internal sealed class AutogradImplementation(string name, Operands operands, Func<Operands, Tensor> function)
    : Implementation(name)
{
    public override void Forward()
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        function(operands);
    }

    public override void ForwardBackward()
    {
        using var scope = NewDisposeScope();
        Train();
    }

    public override IReadOnlyList<(string Name, Tensor Value)> Evaluate()
    {
        using var scope = NewDisposeScope();
        List<(string, Tensor)> results = [];
        using (no_grad())
            results.Add(("y in inference", Keep(function(operands))));
        results.Add(("y in training", Keep(Train())));
        foreach ((string name, Tensor tensor) in operands.Differentiable)
        {
            Tensor gradient = tensor.grad
                ?? throw new InvalidOperationException($"{Name} left no gradient for {name}.");
            results.Add(($"d{name}", Keep(gradient)));
        }
        return results;
    }

    public override void Dispose()
    {
    }

    private Tensor Train()
    {
        // As an optimiser's zero_grad does between two steps.
        foreach ((_, Tensor tensor) in operands.Differentiable)
            tensor.grad = null;
        Tensor output = function(operands);
        output.backward([operands.OutputGradient]);
        return output;
    }

    private static Tensor Keep(Tensor tensor) => tensor.detach().clone().MoveToOuterDisposeScope();
}
