using System.Globalization;
using System.Runtime.InteropServices;

namespace MoEKernels;

/// <summary>
/// A bfloat16 number: sign, 8 exponent bits and 7 fraction bits, which is the upper half of a binary32. It is storage
/// for tensors, so it converts and compares but does not calculate. (.NET 10 has no such type of its own.)
/// </summary>
[StructLayout(LayoutKind.Sequential)]
public readonly struct BFloat16 : IEquatable<BFloat16>, IComparable<BFloat16>, IFormattable
{
    private const ushort QuietNaN = 0x7FC0;

    private readonly ushort _bits;

    private BFloat16(ushort bits) => _bits = bits;

    /// <summary>The 16 bits: sign, exponent, fraction, from the highest.</summary>
    public ushort Bits => _bits;

    /// <summary>Makes a number of its 16 bits.</summary>
    /// <param name="bits">Sign, exponent, fraction, from the highest.</param>
    public static BFloat16 FromBits(ushort bits) => new(bits);

    /// <summary>Rounds to nearest, ties to even; a NaN stays one, too large a value becomes infinite.</summary>
    /// <param name="value">The number to round.</param>
    public static BFloat16 FromSingle(float value)
    {
        if (float.IsNaN(value))
            return new BFloat16(QuietNaN);
        uint bits = BitConverter.SingleToUInt32Bits(value);
        // Half of the last kept place, less one when that place is even: a tie then stays at the even neighbour.
        return new BFloat16((ushort)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16));
    }

    /// <summary>The same number as binary32; exact.</summary>
    public float ToSingle() => BitConverter.UInt32BitsToSingle((uint)_bits << 16);

    /// <summary>Rounds, see <see cref="FromSingle"/>.</summary>
    /// <param name="value">The number to round.</param>
    public static explicit operator BFloat16(float value) => FromSingle(value);

    /// <summary>The same number as binary32; exact.</summary>
    /// <param name="value">The number to widen.</param>
    public static implicit operator float(BFloat16 value) => value.ToSingle();

    /// <summary>Compares as binary32 does: NaN differs from everything, -0 equals +0.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another.</param>
    public static bool operator ==(BFloat16 left, BFloat16 right) => left.ToSingle() == right.ToSingle();

    /// <summary>The opposite of ==.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another.</param>
    public static bool operator !=(BFloat16 left, BFloat16 right) => !(left == right);

    /// <summary>Whether left is less than right; false with a NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another.</param>
    public static bool operator <(BFloat16 left, BFloat16 right) => left.ToSingle() < right.ToSingle();

    /// <summary>Whether left is greater than right; false with a NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another.</param>
    public static bool operator >(BFloat16 left, BFloat16 right) => left.ToSingle() > right.ToSingle();

    /// <summary>Whether left is at most right; false with a NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another.</param>
    public static bool operator <=(BFloat16 left, BFloat16 right) => left.ToSingle() <= right.ToSingle();

    /// <summary>Whether left is at least right; false with a NaN.</summary>
    /// <param name="left">A number.</param>
    /// <param name="right">Another.</param>
    public static bool operator >=(BFloat16 left, BFloat16 right) => left.ToSingle() >= right.ToSingle();

    /// <summary>Compares as <see cref="float.Equals(float)"/> does: a NaN equals a NaN, -0 equals +0.</summary>
    /// <param name="other">The number to compare with.</param>
    public bool Equals(BFloat16 other) => ToSingle().Equals(other.ToSingle());

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is BFloat16 other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => ToSingle().GetHashCode();

    /// <summary>Orders as <see cref="float.CompareTo(float)"/> does: NaN before everything.</summary>
    /// <param name="other">The number to compare with.</param>
    public int CompareTo(BFloat16 other) => ToSingle().CompareTo(other.ToSingle());

    /// <inheritdoc/>
    public override string ToString() => ToString(null, CultureInfo.CurrentCulture);

    /// <inheritdoc/>
    public string ToString(string? format, IFormatProvider? formatProvider) =>
        ToSingle().ToString(format, formatProvider);
}
