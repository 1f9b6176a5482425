using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Tensors as the raw ops want them: checked, typed, and as an address with a row stride.</summary>
internal static unsafe class OpTensors
{
    // Tensors without elements have no memory, but the ops take 0 for "not given". Nothing is read or written there.
    private static readonly nint NoElements = (nint)NativeMemory.AlignedAlloc(64, 64);

    public static nint Address(Tensor? tensor)
    {
        if (tensor is null)
            return 0;
        nint address = TensorPointer.Of(tensor);
        return address == 0 ? NoElements : address;
    }

    public static DType TypeOf(Tensor tensor, [CallerArgumentExpression(nameof(tensor))] string? name = null) => tensor.dtype switch
    {
        ScalarType.Float32 => DType.F32,
        ScalarType.BFloat16 => DType.BF16,
        ScalarType.Float16 => DType.F16,
        ScalarType.Float64 => DType.F64,
        _ => throw new ArgumentException($"{name} is {tensor.dtype}; expected Float32, BFloat16, Float16 or Float64.", name),
    };

    public static ScalarType ToScalarType(DType type) => type switch
    {
        DType.BF16 => ScalarType.BFloat16,
        DType.F16 => ScalarType.Float16,
        DType.F64 => ScalarType.Float64,
        _ => ScalarType.Float32,
    };

    /// <summary>Checks the shape; -1 in the expected one stands for any size.</summary>
    public static void CheckShape(Tensor tensor, ReadOnlySpan<long> expected, string meaning, [CallerArgumentExpression(nameof(tensor))] string? name = null)
    {
        bool fits = tensor.Dimensions == expected.Length;
        for (int i = 0; fits && i < expected.Length; i++)
            fits = expected[i] == -1 || tensor.size(i) == expected[i];
        if (!fits)
            throw new ArgumentException($"{name} has shape [{string.Join(", ", tensor.shape)}]; expected {meaning} = [{string.Join(", ", expected.ToArray()).Replace("-1", "?", StringComparison.Ordinal)}].", name);
    }

    /// <summary>Checks that the last dimension is as wide as expected.</summary>
    public static void CheckWidth(Tensor tensor, long expected, string meaning, [CallerArgumentExpression(nameof(tensor))] string? name = null)
    {
        int dimensions = (int)tensor.Dimensions;
        if (dimensions == 0 || tensor.size(dimensions - 1) != expected)
            throw new ArgumentException($"{name} has shape [{string.Join(", ", tensor.shape)}]; expected [.., {meaning} = {expected}].", name);
    }

    public static void CheckType(Tensor tensor, ScalarType expected, string reason, [CallerArgumentExpression(nameof(tensor))] string? name = null)
    {
        if (tensor.dtype != expected)
            throw new ArgumentException($"{name} is {tensor.dtype}; expected {expected}{reason}.", name);
    }

    public static void CheckDevice(Tensor tensor, Tensor reference, [CallerArgumentExpression(nameof(tensor))] string? name = null, [CallerArgumentExpression(nameof(reference))] string? referenceName = null)
    {
        if (tensor.device_type != reference.device_type || tensor.device_index != reference.device_index)
            throw new ArgumentException($"{name} is on {tensor.device}; expected {reference.device} as {referenceName}.", name);
    }

    /// <summary>Checks that there is a backend for the tensor's device and that it offers such a call: whatever it says only in forward comes too late for autograd to forget the node.</summary>
    public static void CheckBackend(Tensor tensor, CallFlags flags, [CallerArgumentExpression(nameof(tensor))] string? name = null)
    {
        MoeContext context = MoeContexts.For(tensor);
        if (context.Device == MoeDeviceType.Cpu)
            return;
        if (tensor.dtype == ScalarType.Float64)
            throw new MoeUnsupportedException($"{name} is {tensor.dtype} on {tensor.device}; it runs on the CPU only.");
        if (flags.HasFlag(CallFlags.Strict))
            throw new MoeUnsupportedException($"The flags hold {CallFlags.Strict}, and {name} is on {tensor.device}; it runs on the CPU only, because a GPU cannot report a NaN without waiting for it.");
    }

    public static void CheckFlags(CallFlags flags, string name)
    {
        const CallFlags Allowed = CallFlags.BatchInvariant | CallFlags.Strict | CallFlags.AllowTf32;
        if ((flags & ~Allowed) != 0)
            throw new ArgumentException($"Flags are {flags}; expected a combination of {Allowed}. Accumulating is what autograd and the base output do here.", name);
    }

    /// <summary>Checks that a tensor has an input's leading dimensions and the expected width.</summary>
    public static void CheckLikeWithWidth(Tensor tensor, Tensor like, long width, [CallerArgumentExpression(nameof(tensor))] string? name = null)
    {
        int dimensions = (int)like.Dimensions;
        bool fits = tensor.Dimensions == dimensions && tensor.size(dimensions - 1) == width;
        for (int i = 0; fits && i < dimensions - 1; i++)
            fits = tensor.size(i) == like.size(i);
        if (!fits)
            throw new ArgumentException($"{name} has shape [{string.Join(", ", tensor.shape)}]; expected x's leading dimensions and d_out = [{string.Join(", ", [.. like.shape[..^1], width])}].", name);
    }

    /// <summary>A tensor without values, contiguous, of an input's shape and type.</summary>
    public static Tensor EmptyLike(Tensor like) => EmptyWithWidth(like, like.size((int)like.Dimensions - 1), like.dtype);

    /// <summary>The leading shape of an input with another width: an output without values.</summary>
    public static Tensor EmptyWithWidth(Tensor like, long width, ScalarType type)
    {
        // Asking for a shape as an array costs as much as an allocation, hence the short way for matrices.
        if (like.Dimensions == 2)
            return empty(like.size(0), width, dtype: type, device: like.device);
        long[] shape = like.shape;
        shape[^1] = width;
        return empty(shape, dtype: type, device: like.device);
    }

    public static Tensor? EmptyIf(bool wanted, long rows, long columns, ScalarType type, Tensor like) =>
        wanted ? empty(rows, columns, dtype: type, device: like.device) : null;
}
