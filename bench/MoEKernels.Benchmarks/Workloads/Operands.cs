using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>The tensors of a workload by their names in the C header, and the gradient of the output.</summary>
internal sealed class Operands : IDisposable
{
    private readonly Dictionary<string, Tensor> _tensors = [];

    public required Tensor OutputGradient { get; init; }

    public Tensor this[string name] => _tensors[name];

    /// <summary>The operands that gradients are asked for.</summary>
    public IEnumerable<(string Name, Tensor Tensor)> Differentiable =>
        _tensors.Where(entry => entry.Value.requires_grad).Select(entry => (entry.Key, entry.Value));

    public Tensor? Find(string name) => _tensors.GetValueOrDefault(name);

    public void AddDifferentiable(string name, Tensor tensor) => _tensors.Add(name, tensor.requires_grad_(true));

    public void AddConstant(string name, Tensor tensor) => _tensors.Add(name, tensor);

    /// <summary>The same values in f64.</summary>
    public Operands ToDouble()
    {
        var result = new Operands { OutputGradient = Copy(OutputGradient) };
        foreach ((string name, Tensor tensor) in _tensors)
            result._tensors.Add(name, Copy(tensor).requires_grad_(tensor.requires_grad));
        return result;
    }

    public void Dispose()
    {
        OutputGradient.Dispose();
        foreach (Tensor tensor in _tensors.Values)
            tensor.Dispose();
    }

    private static Tensor Copy(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        return tensor.detach().to(ScalarType.Float64, copy: true).MoveToOuterDisposeScope();
    }
}
