using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

public static unsafe partial class CoreMerge
{
    /// <summary>Runs core-space merging on host memory. All rows are dense.</summary>
    /// <typeparam name="TX">Type of x and y: float, double, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TWeight">
    /// Type of A, B, C and W_g: the same, or float with <see cref="Half"/> or <see cref="BFloat16"/> activations.
    /// </typeparam>
    /// <typeparam name="TAcc">Accumulator type: double with double activations, else float.</typeparam>
    /// <param name="shape">Dimensions.</param>
    /// <param name="options">The maths.</param>
    /// <param name="x">[in] [T, DIn].</param>
    /// <param name="a">[in] [R, DIn].</param>
    /// <param name="b">[in] [DOut, R] or [R, DOut], see <see cref="BLayout"/>.</param>
    /// <param name="c">[in] [E, R, R].</param>
    /// <param name="y">[out] [T, DOut]; added to with <see cref="CallFlags.AccumulateOutput"/>.</param>
    /// <param name="u">[out] [T, R]: A x~.</param>
    /// <param name="p">[out; in with <see cref="CoreRouter.Caller"/>] [T, E]: mixing weights.</param>
    /// <param name="v">[out] [T, R]: merged core times u, before its dropout.</param>
    /// <param name="wg">
    /// [in] [E, R] (<see cref="CoreRouter.Core"/>) or [E, DIn] (<see cref="CoreRouter.Input"/>); empty with
    /// <see cref="CoreRouter.Caller"/>.
    /// </param>
    /// <param name="routerInput">
    /// [in, optional] [T, DIn]: what the router reads instead of x; <see cref="CoreRouter.Input"/> only.
    /// </param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <remarks>
    /// u, p and v are what backward needs; each may be empty when no gradient is wanted, p only if it is not an input.
    /// </remarks>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range or has the wrong length, or buffers overlap; nothing was written.
    /// </exception>
    /// <exception cref="MoeNumericException">A strict call met a NaN score; nothing was written.</exception>
    /// <exception cref="MoeException">The native library failed or cannot be loaded.</exception>
    public static void Forward<TX, TWeight, TAcc>(
        in CoreMergeShape shape, in CoreMergeOptions options, ReadOnlySpan<TX> x, ReadOnlySpan<TWeight> a,
        ReadOnlySpan<TWeight> b, ReadOnlySpan<TWeight> c, Span<TX> y, Span<TAcc> u, Span<TAcc> p, Span<TAcc> v,
        ReadOnlySpan<TWeight> wg = default, ReadOnlySpan<TX> routerInput = default, MoeContext? context = null)
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        DTypeSet types = SpanTypes.Set<TX, TWeight>(nameof(x), nameof(a));
        SpanTypes.RequireAccumulator<TX, TAcc>(nameof(u));
        CoreMergeChecks.Check(shape, options);
        CheckInputs(shape, options, x.Length, a.Length, b.Length, c.Length, wg.Length, routerInput.Length);
        Require.Length(y.Length, Require.Elements(shape.T, shape.DOut), "[T, DOut]", nameof(y));
        Require.LengthOrEmpty(u.Length, Require.Elements(shape.T, shape.R), "[T, R]", nameof(u));
        if (options.Router == CoreRouter.Caller)
            Require.Length(p.Length, Require.Elements(shape.T, shape.E), "[T, E]", nameof(p));
        else
            Require.LengthOrEmpty(p.Length, Require.Elements(shape.T, shape.E), "[T, E]", nameof(p));
        Require.LengthOrEmpty(v.Length, Require.Elements(shape.T, shape.R), "[T, R]", nameof(v));
        context = Require.Host(context);

        fixed (TX* xPointer = x, yPointer = y, routerInputPointer = routerInput)
        fixed (TWeight* aPointer = a, bPointer = b, cPointer = c, wgPointer = wg)
        fixed (TAcc* uPointer = u, pPointer = p, vPointer = v)
        {
            Native.CoreMergeArgs native = NativeCoreMergeArgs.Create(shape, options, types);
            native.X = xPointer;
            native.RouterInput = routerInputPointer;
            native.A = aPointer;
            native.B = bPointer;
            native.C = cPointer;
            native.Wg = wgPointer;
            native.Y = yPointer;
            native.U = uPointer;
            native.P = pPointer;
            native.V = vPointer;

            using ContextLease lease = context.Lease();
            ulong bytes = 0;
            NativeError.ThrowIfFailed(NativeMethods.CoreMergeForwardWorkspace(lease.Pointer, &native, &bytes));
            using HostWorkspace workspace = new(bytes);
            NativeError.ThrowIfFailed(
                NativeMethods.CoreMergeForward(lease.Pointer, &native, workspace.Pointer, workspace.Bytes, null));
        }
    }

    /// <summary>Runs the gradient of core-space merging on host memory. All rows are dense.</summary>
    /// <typeparam name="TX">Type of x and y: float, double, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TWeight">
    /// Type of A, B, C, W_g and their gradients: the same, or float with <see cref="Half"/> or <see cref="BFloat16"/>
    /// activations.
    /// </typeparam>
    /// <typeparam name="TAcc">Accumulator type: double with double activations, else float.</typeparam>
    /// <param name="shape">Dimensions, as in forward.</param>
    /// <param name="options">The maths, as in forward.</param>
    /// <param name="dy">[in] [T, DOut]: gradient to y.</param>
    /// <param name="x">[in] [T, DIn].</param>
    /// <param name="a">[in] [R, DIn].</param>
    /// <param name="b">[in] [DOut, R] or [R, DOut], see <see cref="BLayout"/>.</param>
    /// <param name="c">[in] [E, R, R].</param>
    /// <param name="u">[in] [T, R] of forward.</param>
    /// <param name="p">[in] [T, E] of forward.</param>
    /// <param name="v">[in] [T, R] of forward.</param>
    /// <param name="wg">
    /// [in] [E, R] (<see cref="CoreRouter.Core"/>) or [E, DIn] (<see cref="CoreRouter.Input"/>); empty with
    /// <see cref="CoreRouter.Caller"/>.
    /// </param>
    /// <param name="routerInput">[in, optional] [T, DIn] as in forward.</param>
    /// <param name="dx">[out, optional] [T, DIn]; added to with <see cref="CallFlags.AccumulateOutput"/>.</param>
    /// <param name="dA">
    /// [out, optional] [R, DIn]; added to with <see cref="CallFlags.AccumulateGradients"/>, as are dB, dC and dWg.
    /// </param>
    /// <param name="dB">[out, optional] shape of b.</param>
    /// <param name="dC">[out, optional] [E, R, R].</param>
    /// <param name="dWg">[out, optional] shape of wg.</param>
    /// <param name="dRouterInput">[out, optional] [T, DIn]; needs routerInput.</param>
    /// <param name="dp">[out, optional] [T, E]: gradient to p.</param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range or has the wrong length, or buffers overlap; nothing was written.
    /// </exception>
    /// <exception cref="MoeException">The native library failed or cannot be loaded.</exception>
    public static void Backward<TX, TWeight, TAcc>(
        in CoreMergeShape shape, in CoreMergeOptions options, ReadOnlySpan<TX> dy, ReadOnlySpan<TX> x,
        ReadOnlySpan<TWeight> a, ReadOnlySpan<TWeight> b, ReadOnlySpan<TWeight> c, ReadOnlySpan<TAcc> u,
        ReadOnlySpan<TAcc> p, ReadOnlySpan<TAcc> v, ReadOnlySpan<TWeight> wg = default,
        ReadOnlySpan<TX> routerInput = default, Span<TX> dx = default, Span<TWeight> dA = default,
        Span<TWeight> dB = default, Span<TWeight> dC = default, Span<TWeight> dWg = default,
        Span<TX> dRouterInput = default, Span<TAcc> dp = default, MoeContext? context = null)
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        DTypeSet types = SpanTypes.Set<TX, TWeight>(nameof(x), nameof(a));
        SpanTypes.RequireAccumulator<TX, TAcc>(nameof(u));
        CoreMergeChecks.Check(shape, options);
        CheckInputs(shape, options, x.Length, a.Length, b.Length, c.Length, wg.Length, routerInput.Length);
        Require.Length(dy.Length, Require.Elements(shape.T, shape.DOut), "[T, DOut]", nameof(dy));
        Require.Length(u.Length, Require.Elements(shape.T, shape.R), "[T, R]", nameof(u));
        Require.Length(p.Length, Require.Elements(shape.T, shape.E), "[T, E]", nameof(p));
        Require.Length(v.Length, Require.Elements(shape.T, shape.R), "[T, R]", nameof(v));
        Require.LengthOrEmpty(dx.Length, x.Length, "[T, DIn]", nameof(dx));
        Require.LengthOrEmpty(dA.Length, a.Length, "[R, DIn]", nameof(dA));
        Require.LengthOrEmpty(dB.Length, b.Length, "the length of b", nameof(dB));
        Require.LengthOrEmpty(dC.Length, c.Length, "[E, R, R]", nameof(dC));
        if (wg.IsEmpty)
            Require.Empty(dWg.Length, "without wg", nameof(dWg));
        else
            Require.LengthOrEmpty(dWg.Length, wg.Length, "the length of wg", nameof(dWg));
        if (routerInput.IsEmpty)
            Require.Empty(dRouterInput.Length, "without routerInput", nameof(dRouterInput));
        else
            Require.LengthOrEmpty(dRouterInput.Length, routerInput.Length, "[T, DIn]", nameof(dRouterInput));
        Require.LengthOrEmpty(dp.Length, p.Length, "[T, E]", nameof(dp));
        context = Require.Host(context);

        fixed (TX* dyPointer = dy, xPointer = x, routerInputPointer = routerInput, dxPointer = dx,
            dRouterInputPointer = dRouterInput)
        fixed (TWeight* aPointer = a, bPointer = b, cPointer = c, wgPointer = wg)
        fixed (TWeight* dAPointer = dA, dBPointer = dB, dCPointer = dC, dWgPointer = dWg)
        fixed (TAcc* uPointer = u, pPointer = p, vPointer = v, dpPointer = dp)
        {
            Native.CoreMergeArgs native = NativeCoreMergeArgs.Create(shape, options, types);
            native.X = xPointer;
            native.RouterInput = routerInputPointer;
            native.A = aPointer;
            native.B = bPointer;
            native.C = cPointer;
            native.Wg = wgPointer;
            native.U = uPointer;
            native.P = pPointer;
            native.V = vPointer;
            native.Dy = dyPointer;
            native.Dx = dxPointer;
            native.DrouterInput = dRouterInputPointer;
            native.DA = dAPointer;
            native.DB = dBPointer;
            native.DC = dCPointer;
            native.DWg = dWgPointer;
            native.Dp = dpPointer;

            using ContextLease lease = context.Lease();
            ulong bytes = 0;
            NativeError.ThrowIfFailed(NativeMethods.CoreMergeBackwardWorkspace(lease.Pointer, &native, &bytes));
            using HostWorkspace workspace = new(bytes);
            NativeError.ThrowIfFailed(
                NativeMethods.CoreMergeBackward(lease.Pointer, &native, workspace.Pointer, workspace.Bytes, null));
        }
    }

    private static void CheckInputs(
        in CoreMergeShape shape, in CoreMergeOptions options, int x, int a, int b, int c, int wg, int routerInput)
    {
        Require.Length(x, Require.Elements(shape.T, shape.DIn), "[T, DIn]", nameof(x));
        Require.Length(a, Require.Elements(shape.R, shape.DIn), "[R, DIn]", nameof(a));
        string bShape = options.BLayout == BLayout.OutByRank ? "[DOut, R]" : "[R, DOut]";
        Require.Length(b, Require.Elements(shape.DOut, shape.R), bShape, nameof(b));
        Require.Length(c, Require.Elements(shape.E, Require.Elements(shape.R, shape.R)), "[E, R, R]", nameof(c));
        string wgShape = options.Router == CoreRouter.Core ? "[E, R]" : "[E, DIn]";
        if (options.Router == CoreRouter.Caller)
            Require.Empty(wg, "with CoreRouter.Caller", nameof(wg));
        else
            Require.Length(wg, CoreMergeChecks.RouterElements(shape, options), wgShape, nameof(wg));
        if (options.Router == CoreRouter.Input)
            Require.LengthOrEmpty(routerInput, Require.Elements(shape.T, shape.DIn), "[T, DIn]", nameof(routerInput));
        else
            Require.Empty(routerInput, "without CoreRouter.Input", nameof(routerInput));
    }
}
