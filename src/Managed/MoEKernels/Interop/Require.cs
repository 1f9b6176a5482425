using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace MoEKernels.Interop;

/// <summary>
/// Argument checks. Each names the argument, what was got and what was expected; what passes costs a comparison, the
/// text is made by helpers that are not inlined.
/// </summary>
internal static class Require
{
    private const CallFlags AllFlags = CallFlags.AccumulateOutput | CallFlags.AccumulateGradients
        | CallFlags.AccumulateCounts | CallFlags.BatchInvariant | CallFlags.Strict | CallFlags.AllowTf32;

    /// <summary>Elements of a tensor; saturates, so that a product beyond 64 bits never fits a span.</summary>
    internal static long Elements(long rows, long columns)
    {
        long high = Math.BigMul(rows, columns, out long low);
        return high == 0 && low >= 0 ? low : long.MaxValue;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Defined(uint value, uint last, string argument, string member)
    {
        if (value > last)
            ThrowOption(value, $"0 to {last}", argument, member);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Option<T>(bool holds, T value, string expected, string argument, string member)
        where T : IFormattable
    {
        if (!holds)
            ThrowOption(value, expected, argument, member);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Dimension(long value, long least, long most, string argument, string member)
    {
        if (value < least || value > most)
            ThrowOption(value, most == long.MaxValue ? $"at least {least}" : $"{least} to {most}", argument, member);
    }

    /// <summary>A member of the argument "options" that is a finite number of at least 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void NotNegative(double value, string member) =>
        Option(value >= 0 && double.IsFinite(value), value, "a finite number of at least 0", "options", member);

    /// <summary>A member of the argument "options" that is a dropout probability.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Probability(double value, string member) =>
        Option(value >= 0 && value < 1, value, "at least 0 and less than 1", "options", member);

    /// <summary>The member Flags of the argument "options".</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Flags(CallFlags value) => Defined((uint)value, (uint)AllFlags, "options", "Flags");

    /// <summary>A span that must have exactly the elements of its shape.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Length(int got, long expected, string shape, string argument)
    {
        if (got != expected)
            ThrowLength(got, expected, shape, argument, mayBeEmpty: false);
    }

    /// <summary>A span that may be left out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void LengthOrEmpty(int got, long expected, string shape, string argument)
    {
        if (got != 0 && got != expected)
            ThrowLength(got, expected, shape, argument, mayBeEmpty: true);
    }

    /// <summary>A span that must be left out in this mode.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Empty(int got, string because, string argument)
    {
        if (got != 0)
            ThrowNotEmpty(got, because, argument);
    }

    /// <summary>The context of a call on spans, which live in host memory.</summary>
    internal static MoeContext Host(MoeContext? context)
    {
        context ??= MoeContext.Default;
        if (context.Device != MoeDeviceType.Cpu)
        {
            throw new ArgumentException(
                $"context: got one on {context.Device}, expected a CPU context: spans are host memory.",
                nameof(context));
        }

        return context;
    }

    /// <summary>Something that must live on the device of <paramref name="context"/>.</summary>
    internal static void SameDevice(MoeContext got, MoeContext context, string argument)
    {
        if (got.Device != context.Device || got.DeviceIndex != context.DeviceIndex)
        {
            throw new ArgumentException(
                $"{argument}: got one on {got.Device} {got.DeviceIndex}, expected one on {context.Device} "
                + $"{context.DeviceIndex}.", argument);
        }
    }

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ThrowOption<T>(T got, string expected, string argument, string member)
        where T : IFormattable =>
        throw new ArgumentOutOfRangeException(
            argument, string.Create(CultureInfo.InvariantCulture, $"{member}: got {got}, expected {expected}."));

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ThrowLength(int got, long expected, string shape, string argument, bool mayBeEmpty) =>
        throw new ArgumentException(
            $"{argument}: got {got} elements, expected {expected} = {shape}{(mayBeEmpty ? " or none" : "")}.",
            argument);

    [DoesNotReturn]
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ThrowNotEmpty(int got, string because, string argument) =>
        throw new ArgumentException($"{argument}: got {got} elements, expected none {because}.", argument);
}
