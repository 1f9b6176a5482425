using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Workloads;

/// <summary>An op on raw addresses. Tensors only lend it their memory.</summary>
internal abstract class RawImplementation() : Implementation(Raw)
{
    private readonly List<Tensor> _buffers = [];
    private readonly List<(string Name, Tensor Tensor)> _gradients = [];
    private Tensor? _output;

    public override IReadOnlyList<(string Name, Tensor Value)> Evaluate()
    {
        // What a pass does not write must not look right by what an earlier one left.
        Poison();
        Forward();
        List<(string, Tensor)> results = [("y in inference", _output!.clone())];
        Poison();
        ForwardBackward();
        results.Add(("y in training", _output.clone()));
        results.AddRange(_gradients.Select(gradient => ($"d{gradient.Name}", gradient.Tensor.clone())));
        return results;
    }

    public override void Dispose()
    {
        foreach (Tensor buffer in _buffers)
            buffer.Dispose();
    }

    protected static unsafe nint Address(Tensor? tensor) =>
        tensor is null ? 0 : (nint)Unsafe.AsPointer(ref MemoryMarshal.GetReference(tensor.bytes));

    protected nint Output(Tensor gradient) => Address(_output = Keep(empty_like(gradient)));

    protected nint Gradient(string name, Tensor operand)
    {
        Tensor gradient = Keep(empty_like(operand.detach()));
        _gradients.Add((name, gradient));
        return Address(gradient);
    }

    protected nint Buffer(ScalarType type, params long[] shape) => Address(Keep(empty(shape, dtype: type)));

    protected nint Workspace(long bytes) => bytes == 0 ? 0 : Buffer(ScalarType.Byte, bytes);

    private Tensor Keep(Tensor tensor)
    {
        _buffers.Add(tensor.DetachFromDisposeScope());
        return tensor;
    }

    private void Poison()
    {
        foreach ((_, Tensor gradient) in _gradients)
            gradient.fill_(double.NaN);
        _output!.fill_(double.NaN);
    }
}
