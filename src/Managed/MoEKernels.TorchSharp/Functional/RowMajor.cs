using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A tensor as rows of contiguous elements: itself where its strides allow it, else a contiguous copy that is freed on
/// <see cref="Dispose"/>. Autograd does not see the copy.
/// </summary>
internal readonly ref struct RowMajor
{
    private readonly Tensor? _tensor;
    private readonly bool _isCopy;

    public RowMajor(Tensor? tensor)
    {
        _tensor = tensor;
        if (tensor is null || tensor.is_contiguous())
            return;
        if (tensor.Dimensions == 2 && tensor.stride(1) == 1 && tensor.stride(0) >= tensor.size(1))
        {
            Stride = tensor.stride(0);
            return;
        }
        using var noGrad = no_grad();
        _tensor = tensor.contiguous().DetachFromDisposeScope();
        _isCopy = true;
    }

    /// <summary>Elements between two rows; 0: dense.</summary>
    public long Stride { get; }

    /// <summary>Address of the first element; 0 for no tensor.</summary>
    public nint Address => OpTensors.Address(_tensor);

    public void Dispose()
    {
        if (_isCopy)
            _tensor!.Dispose();
        else
            GC.KeepAlive(_tensor);
    }
}
