using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class TensorPointerTests
{
    [Test]
    public void Of_SlicedTensors_IsTheAddressOfTheFirstElement()
    {
        using var scope = NewDisposeScope();
        foreach (ScalarType type in new[] { ScalarType.BFloat16, ScalarType.Float16, ScalarType.Float32, ScalarType.Float64, ScalarType.Int32 })
        {
            Tensor whole = zeros(10, dtype: type);
            Tensor slice = whole.narrow(0, 3, 4);
            Assert.That(TensorPointer.Of(slice) - TensorPointer.Of(whole), Is.EqualTo((nint)(3 * whole.ElementSize)), $"{type}");
            Assert.That(TensorPointer.ThroughStorage(slice), Is.EqualTo(TensorPointer.Of(slice)), $"{type}: the way around");
        }
    }

    [Test]
    public unsafe void Of_Written_ReadsBack()
    {
        using var scope = NewDisposeScope();
        Tensor tensor = zeros(4);
        ((float*)TensorPointer.Of(tensor))[2] = 5;
        Assert.That(tensor.data<float>().ToArray(), Is.EqualTo(new[] { 0f, 0, 5, 0 }));
    }

    [Test]
    public void Of_NoElements_IsZeroAndAddressIsNot()
    {
        using var scope = NewDisposeScope();
        Assert.That(TensorPointer.Of(empty(0, 3)), Is.EqualTo((nint)0));
        Assert.That(OpTensors.Address(empty(0, 3)), Is.Not.EqualTo((nint)0));
        Assert.That(OpTensors.Address(null), Is.EqualTo((nint)0));
    }
}
