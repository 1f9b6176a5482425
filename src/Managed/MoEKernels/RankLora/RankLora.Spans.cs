using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

public static unsafe partial class RankLora
{
    /// <summary>Runs rank-wise LoRA on host memory. All rows are dense.</summary>
    /// <typeparam name="TX">Type of x and y: float, double, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TWeight">
    /// Type of A, B and W_r: the same, or float with <see cref="Half"/> or <see cref="BFloat16"/> activations.
    /// </typeparam>
    /// <typeparam name="TAcc">Accumulator type: double with double activations, else float.</typeparam>
    /// <param name="shape">Dimensions.</param>
    /// <param name="options">The maths.</param>
    /// <param name="x">[in] [T, DIn].</param>
    /// <param name="a">[in] [R, DIn].</param>
    /// <param name="b">[in] [DOut, R] or [R, DOut], see <see cref="BLayout"/>.</param>
    /// <param name="y">[out] [T, DOut]; added to with <see cref="CallFlags.AccumulateOutput"/>.</param>
    /// <param name="ids">[out; in with <see cref="RankGate.Caller"/>] [T, K], distinct in a row, best first.</param>
    /// <param name="gates">[out; in with <see cref="RankGate.Caller"/>] [T, K].</param>
    /// <param name="wr">[in] [R / RankPartition, DIn]; <see cref="RankGate.Router"/> only, else empty.</param>
    /// <param name="bias">[in] [R]; empty with <see cref="BiasMode.None"/>.</param>
    /// <param name="routerInput">[in, optional] [T, DIn]: what the router reads instead of dropout(x).</param>
    /// <param name="u">[out, optional] [T, K]: A[ids] x~, needed by backward.</param>
    /// <param name="gateLogits">
    /// [out, optional] router logits [T, R / RankPartition], or A x~ [T, R] with
    /// <see cref="RankGate.ActivationSoftmax"/>, needed by backward; else empty.
    /// </param>
    /// <param name="counts">[out, optional] [R]: how often each rank was selected.</param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range or has the wrong length, or buffers overlap; nothing was written.
    /// </exception>
    /// <exception cref="MoeNumericException">A strict call met a NaN score; nothing was written.</exception>
    /// <exception cref="MoeException">The native library failed or cannot be loaded.</exception>
    public static void Forward<TX, TWeight, TAcc>(
        in RankLoraShape shape, in RankLoraOptions options, ReadOnlySpan<TX> x, ReadOnlySpan<TWeight> a,
        ReadOnlySpan<TWeight> b, Span<TX> y, Span<int> ids, Span<TAcc> gates, ReadOnlySpan<TWeight> wr = default,
        ReadOnlySpan<TAcc> bias = default, ReadOnlySpan<TX> routerInput = default, Span<TAcc> u = default,
        Span<TAcc> gateLogits = default, Span<int> counts = default, MoeContext? context = null)
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        DTypeSet types = SpanTypes.Set<TX, TWeight>(nameof(x), nameof(a));
        SpanTypes.RequireAccumulator<TX, TAcc>(nameof(gates));
        RankLoraChecks.Check(shape, options);
        CheckInputs(shape, options, x.Length, a.Length, b.Length, wr.Length, bias.Length, routerInput.Length);
        Require.Length(y.Length, Require.Elements(shape.T, shape.DOut), "[T, DOut]", nameof(y));
        Require.Length(ids.Length, Require.Elements(shape.T, shape.K), "[T, K]", nameof(ids));
        Require.Length(gates.Length, Require.Elements(shape.T, shape.K), "[T, K]", nameof(gates));
        Require.LengthOrEmpty(u.Length, Require.Elements(shape.T, shape.K), "[T, K]", nameof(u));
        CheckGateLogits(shape, options, gateLogits.Length, isRequired: false);
        Require.LengthOrEmpty(counts.Length, shape.R, "[R]", nameof(counts));
        context = Require.Host(context);

        fixed (TX* xPointer = x, yPointer = y, routerInputPointer = routerInput)
        fixed (TWeight* aPointer = a, bPointer = b, wrPointer = wr)
        fixed (TAcc* gatesPointer = gates, biasPointer = bias, uPointer = u, gateLogitsPointer = gateLogits)
        fixed (int* idsPointer = ids, countsPointer = counts)
        {
            Native.RankLoraArgs native = NativeRankLoraArgs.Create(shape, options, types);
            native.X = xPointer;
            native.RouterInput = routerInputPointer;
            native.A = aPointer;
            native.B = bPointer;
            native.Wr = wrPointer;
            native.Bias = biasPointer;
            native.Y = yPointer;
            native.Ids = idsPointer;
            native.Gates = gatesPointer;
            native.U = uPointer;
            native.GateLogits = gateLogitsPointer;
            native.Counts = countsPointer;

            using ContextLease lease = context.Lease();
            ulong bytes = 0;
            NativeError.ThrowIfFailed(NativeMethods.RankLoraForwardWorkspace(lease.Pointer, &native, &bytes));
            using HostWorkspace workspace = new(bytes);
            NativeError.ThrowIfFailed(
                NativeMethods.RankLoraForward(lease.Pointer, &native, workspace.Pointer, workspace.Bytes, null));
        }
    }

    /// <summary>Runs the gradient of rank-wise LoRA on host memory. All rows are dense.</summary>
    /// <typeparam name="TX">Type of x and y: float, double, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TWeight">
    /// Type of A, B, W_r and their gradients: the same, or float with <see cref="Half"/> or <see cref="BFloat16"/>
    /// activations.
    /// </typeparam>
    /// <typeparam name="TAcc">Accumulator type: double with double activations, else float.</typeparam>
    /// <param name="shape">Dimensions, as in forward.</param>
    /// <param name="options">The maths, as in forward.</param>
    /// <param name="dy">[in] [T, DOut]: gradient to y.</param>
    /// <param name="x">[in] [T, DIn].</param>
    /// <param name="a">[in] [R, DIn].</param>
    /// <param name="b">[in] [DOut, R] or [R, DOut], see <see cref="BLayout"/>.</param>
    /// <param name="ids">[in] [T, K] of forward.</param>
    /// <param name="gates">[in] [T, K] of forward.</param>
    /// <param name="u">[in] [T, K] of forward.</param>
    /// <param name="wr">[in] [R / RankPartition, DIn]; <see cref="RankGate.Router"/> only, else empty.</param>
    /// <param name="bias">[in] [R] as in forward; empty with <see cref="BiasMode.None"/>.</param>
    /// <param name="routerInput">[in, optional] [T, DIn] as in forward.</param>
    /// <param name="gateLogits">
    /// [in] of forward: [T, R / RankPartition], or [T, R] with <see cref="RankGate.ActivationSoftmax"/>; else empty.
    /// </param>
    /// <param name="dx">[out, optional] [T, DIn]; added to with <see cref="CallFlags.AccumulateOutput"/>.</param>
    /// <param name="dA">
    /// [out, optional] [R, DIn]; added to with <see cref="CallFlags.AccumulateGradients"/>, as are dB and dWr.
    /// </param>
    /// <param name="dB">[out, optional] shape of b.</param>
    /// <param name="dWr">[out, optional] shape of wr.</param>
    /// <param name="dRouterInput">[out, optional] [T, DIn]; needs routerInput.</param>
    /// <param name="dGates">[out, optional] [T, K]: gradient to the gates.</param>
    /// <param name="context">A CPU context; null: <see cref="MoeContext.Default"/>.</param>
    /// <exception cref="ArgumentException">
    /// An argument is out of its range or has the wrong length, or buffers overlap; nothing was written.
    /// </exception>
    /// <exception cref="MoeException">The native library failed or cannot be loaded.</exception>
    public static void Backward<TX, TWeight, TAcc>(
        in RankLoraShape shape, in RankLoraOptions options, ReadOnlySpan<TX> dy, ReadOnlySpan<TX> x,
        ReadOnlySpan<TWeight> a, ReadOnlySpan<TWeight> b, ReadOnlySpan<int> ids, ReadOnlySpan<TAcc> gates,
        ReadOnlySpan<TAcc> u, ReadOnlySpan<TWeight> wr = default, ReadOnlySpan<TAcc> bias = default,
        ReadOnlySpan<TX> routerInput = default, ReadOnlySpan<TAcc> gateLogits = default, Span<TX> dx = default,
        Span<TWeight> dA = default, Span<TWeight> dB = default, Span<TWeight> dWr = default,
        Span<TX> dRouterInput = default, Span<TAcc> dGates = default, MoeContext? context = null)
        where TX : unmanaged
        where TWeight : unmanaged
        where TAcc : unmanaged
    {
        DTypeSet types = SpanTypes.Set<TX, TWeight>(nameof(x), nameof(a));
        SpanTypes.RequireAccumulator<TX, TAcc>(nameof(gates));
        RankLoraChecks.Check(shape, options);
        CheckInputs(shape, options, x.Length, a.Length, b.Length, wr.Length, bias.Length, routerInput.Length);
        Require.Length(dy.Length, Require.Elements(shape.T, shape.DOut), "[T, DOut]", nameof(dy));
        Require.Length(ids.Length, Require.Elements(shape.T, shape.K), "[T, K]", nameof(ids));
        Require.Length(gates.Length, Require.Elements(shape.T, shape.K), "[T, K]", nameof(gates));
        Require.Length(u.Length, Require.Elements(shape.T, shape.K), "[T, K]", nameof(u));
        CheckGateLogits(shape, options, gateLogits.Length, isRequired: true);
        Require.LengthOrEmpty(dx.Length, x.Length, "[T, DIn]", nameof(dx));
        Require.LengthOrEmpty(dA.Length, a.Length, "[R, DIn]", nameof(dA));
        Require.LengthOrEmpty(dB.Length, b.Length, "the length of b", nameof(dB));
        if (wr.IsEmpty)
            Require.Empty(dWr.Length, "without wr", nameof(dWr));
        else
            Require.LengthOrEmpty(dWr.Length, wr.Length, "the length of wr", nameof(dWr));
        if (routerInput.IsEmpty)
            Require.Empty(dRouterInput.Length, "without routerInput", nameof(dRouterInput));
        else
            Require.LengthOrEmpty(dRouterInput.Length, routerInput.Length, "[T, DIn]", nameof(dRouterInput));
        Require.LengthOrEmpty(dGates.Length, gates.Length, "[T, K]", nameof(dGates));
        context = Require.Host(context);

        fixed (TX* dyPointer = dy, xPointer = x, routerInputPointer = routerInput, dxPointer = dx,
            dRouterInputPointer = dRouterInput)
        fixed (TWeight* aPointer = a, bPointer = b, wrPointer = wr, dAPointer = dA, dBPointer = dB, dWrPointer = dWr)
        fixed (TAcc* gatesPointer = gates, uPointer = u, biasPointer = bias, gateLogitsPointer = gateLogits,
            dGatesPointer = dGates)
        fixed (int* idsPointer = ids)
        {
            Native.RankLoraArgs native = NativeRankLoraArgs.Create(shape, options, types);
            native.X = xPointer;
            native.RouterInput = routerInputPointer;
            native.A = aPointer;
            native.B = bPointer;
            native.Wr = wrPointer;
            native.Bias = biasPointer;
            native.Ids = idsPointer;
            native.Gates = gatesPointer;
            native.U = uPointer;
            native.GateLogits = gateLogitsPointer;
            native.Dy = dyPointer;
            native.Dx = dxPointer;
            native.DrouterInput = dRouterInputPointer;
            native.DA = dAPointer;
            native.DB = dBPointer;
            native.DWr = dWrPointer;
            native.Dgates = dGatesPointer;

            using ContextLease lease = context.Lease();
            ulong bytes = 0;
            NativeError.ThrowIfFailed(NativeMethods.RankLoraBackwardWorkspace(lease.Pointer, &native, &bytes));
            using HostWorkspace workspace = new(bytes);
            NativeError.ThrowIfFailed(
                NativeMethods.RankLoraBackward(lease.Pointer, &native, workspace.Pointer, workspace.Bytes, null));
        }
    }

    private static void CheckInputs(
        in RankLoraShape shape, in RankLoraOptions options, int x, int a, int b, int wr, int bias, int routerInput)
    {
        Require.Length(x, Require.Elements(shape.T, shape.DIn), "[T, DIn]", nameof(x));
        Require.Length(a, Require.Elements(shape.R, shape.DIn), "[R, DIn]", nameof(a));
        string bShape = options.BLayout == BLayout.OutByRank ? "[DOut, R]" : "[R, DOut]";
        Require.Length(b, Require.Elements(shape.DOut, shape.R), bShape, nameof(b));
        if (options.Gate == RankGate.Router)
        {
            Require.Length(wr, Require.Elements(RankLoraChecks.RouterRows(shape, options), shape.DIn),
                "[R / RankPartition, DIn]", nameof(wr));
            Require.LengthOrEmpty(routerInput, Require.Elements(shape.T, shape.DIn), "[T, DIn]", nameof(routerInput));
        }
        else
        {
            Require.Empty(wr, "without RankGate.Router", nameof(wr));
            Require.Empty(routerInput, "without RankGate.Router", nameof(routerInput));
        }
        if (options.BiasMode == BiasMode.None)
            Require.Empty(bias, "with BiasMode.None", nameof(bias));
        else
            Require.Length(bias, shape.R, "[R]", nameof(bias));
    }

    private static void CheckGateLogits(in RankLoraShape shape, in RankLoraOptions options, int gateLogits,
        bool isRequired)
    {
        long columns = RankLoraChecks.LogitColumns(shape, options);
        if (columns == 0)
        {
            Require.Empty(gateLogits, "with this gate", nameof(gateLogits));
        }
        else if (isRequired)
        {
            Require.Length(gateLogits, Require.Elements(shape.T, columns), "[T, logits per token]", nameof(gateLogits));
        }
        else
        {
            Require.LengthOrEmpty(gateLogits, Require.Elements(shape.T, columns), "[T, logits per token]",
                nameof(gateLogits));
        }
    }
}
