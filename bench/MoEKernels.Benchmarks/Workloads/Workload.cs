using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>A case with its operands and every implementation of it, the baseline first.</summary>
/// <param name="operands">The operands; disposed of with the workload.</param>
/// <param name="implementations">The implementations; disposed of with the workload.</param>
/// <param name="oracle">The formula in plain TorchSharp operations.</param>
/// <param name="module">What the implementations run on besides the operands; disposed of with the workload.</param>
internal sealed class Workload(
    Operands operands,
    IReadOnlyList<Implementation> implementations,
    Func<Operands, Tensor> oracle,
    IDisposable? module = null)
    : IDisposable
{
    public IReadOnlyList<Implementation> Implementations { get; } = implementations;

    public Implementation this[string name] => Implementations.Single(implementation => implementation.Name == name);

    /// <summary>What the implementations are to give: the formula in f64, on the same values.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> EvaluateOracle()
    {
        using Operands exact = operands.ToDouble();
        using var implementation = new AutogradImplementation("oracle", exact, oracle);
        return implementation.Evaluate();
    }

    public void Dispose()
    {
        foreach (Implementation implementation in Implementations)
            implementation.Dispose();
        module?.Dispose();
        operands.Dispose();
    }
}
