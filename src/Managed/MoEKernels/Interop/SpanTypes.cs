using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace MoEKernels.Interop;

/// <summary>
/// From C# element types to <see cref="DType"/>; the just-in-time compiler reduces each question to a constant.
/// </summary>
internal static class SpanTypes
{
    /// <summary>The element type of a tensor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static DType Of<T>(string argument)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
            return DType.F32;
        if (typeof(T) == typeof(double))
            return DType.F64;
        if (typeof(T) == typeof(Half))
            return DType.F16;
        if (typeof(T) == typeof(BFloat16))
            return DType.BF16;
        ThrowUnknown<T>(argument);
        return default;
    }

    /// <summary>Element types of a call with activations TX and weights TWeight.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static DTypeSet Set<TX, TWeight>(string activation, string weight)
        where TX : unmanaged
        where TWeight : unmanaged
    {
        DType x = Of<TX>(activation);
        DType w = Of<TWeight>(weight);
        if (x != w && (w != DType.F32 || x == DType.F64))
            ThrowMix<TX, TWeight>(weight);
        return new DTypeSet(x, w, w, x, w);
    }

    /// <summary>The accumulator type is double where the activations are, else float.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void RequireAccumulator<TX, TAcc>(string argument)
        where TX : unmanaged
        where TAcc : unmanaged
    {
        if (typeof(TAcc) != (typeof(TX) == typeof(double) ? typeof(double) : typeof(float)))
            ThrowAccumulator<TX, TAcc>(argument);
    }

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ThrowUnknown<T>(string argument) => throw new ArgumentException(
        $"{argument}: got elements of type {typeof(T)}, expected float, double, Half or BFloat16.", argument);

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ThrowMix<TX, TWeight>(string argument) => throw new ArgumentException(
        $"{argument}: got elements of type {typeof(TWeight)} with activations of type {typeof(TX)}, expected the same "
        + "type" + (typeof(TX) == typeof(double) || typeof(TX) == typeof(float) ? "." : " or float."), argument);

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ThrowAccumulator<TX, TAcc>(string argument) => throw new ArgumentException(
        $"{argument}: got elements of type {typeof(TAcc)}, expected "
        + $"{(typeof(TX) == typeof(double) ? "double" : "float")} with activations of type {typeof(TX)}.", argument);
}
