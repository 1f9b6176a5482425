using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// The dropout mask that the ops apply, for oracles and for layers built from single ops. Counter-based: element i = t
/// * d + c uses word i mod 4 of Philox4x32-10 with the counter (low and high half of i / 4, low and high half of the
/// offset) and the key (low half of the seed, high half of the seed xor 0x9E3779B9 * stream, modulo 2^32). The element
/// is kept when (word >> 8) * 2^-24 >= p; the mask is then 1 / (1 - p), else 0.
/// </summary>
/// <remarks>Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.</remarks>
public static unsafe class Dropout
{
    /// <summary>Writes a mask on a raw address.</summary>
    /// <param name="context">The context; its device owns the address.</param>
    /// <param name="args">The call.</param>
    /// <param name="stream">0 on the CPU; on CUDA a <c>cudaStream_t</c>, 0 is the legacy default stream.</param>
    /// <exception cref="ArgumentException">An argument is out of its range; nothing was written.</exception>
    /// <exception cref="MoeException">The device failed, or the backend does not offer the call.</exception>
    public static void Mask(MoeContext context, in DropoutArgs args, nint stream)
    {
        ArgumentNullException.ThrowIfNull(context);
        Native.DropoutArgs native = NativeDropoutArgs.Create(args);
        using ContextLease lease = context.Lease();
        NativeError.ThrowIfFailed(NativeMethods.DropoutMask(lease.Pointer, &native, (void*)stream));
    }

    /// <summary>Writes a mask in host memory.</summary>
    /// <typeparam name="T">float, double, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="mask">[out] [rows, columns], dense.</param>
    /// <param name="rows">Rows, at least 0.</param>
    /// <param name="columns">Columns, at least 1.</param>
    /// <param name="p">Probability that an element is dropped, 0 &lt;= p &lt; 1.</param>
    /// <param name="seed">Seed.</param>
    /// <param name="offset">Offset.</param>
    /// <param name="stream">Which of the streams.</param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <exception cref="ArgumentException">An argument is out of its range; nothing was written.</exception>
    /// <exception cref="MoeException">The native library failed.</exception>
    public static void Mask<T>(
        Span<T> mask, long rows, long columns, double p, ulong seed, ulong offset = 0,
        DropoutStream stream = DropoutStream.Input, MoeContext? context = null)
        where T : unmanaged
    {
        DType type = SpanTypes.Of<T>(nameof(mask));
        Require.Dimension(rows, 0, long.MaxValue, nameof(rows), nameof(rows));
        Require.Dimension(columns, 1, long.MaxValue, nameof(columns), nameof(columns));
        Require.Option(p >= 0 && p < 1, p, "0 <= p < 1", nameof(p), nameof(p));
        Require.Defined((uint)stream, (uint)DropoutStream.Core, nameof(stream), nameof(stream));
        Require.Length(mask.Length, Require.Elements(rows, columns), "[rows, columns]", nameof(mask));
        context = Require.Host(context);
        fixed (T* maskPointer = mask)
        {
            Mask(context, new DropoutArgs
            {
                T = rows,
                D = columns,
                P = p,
                Seed = seed,
                Offset = offset,
                Stream = stream,
                MaskDType = type,
                Mask = (nint)maskPointer,
            }, 0);
        }
    }
}
