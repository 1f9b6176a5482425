using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

public static partial class MoeFunctional
{
    /// <summary>
    /// Core-space merging: u = A dropout(x), v = sum_e p_e (u C_e), y = base + scale B dropout(v), with p = softmax of a router over u or over x.
    /// The merged core is never formed. Source: arXiv 2603.00573 (CoMoL).
    /// </summary>
    /// <param name="x">[.., d_in]; f32, bf16, f16 or f64.</param>
    /// <param name="a">A, [r, d_in]; of x's type, or f32 below bf16 and f16.</param>
    /// <param name="b">B, [d_out, r] or [r, d_out], see the options; of A's type.</param>
    /// <param name="cores">C, [E, r, r], of A's type; u multiplies from the left: v_j = sum_i u_i C[e, i, j].</param>
    /// <param name="router">
    /// W_g of A's type, [E, r] (<see cref="CoreRouter.Core"/>) or [E, d_in] (<see cref="CoreRouter.Input"/>, which reads x without dropout);
    /// null with <see cref="CoreRouter.Caller"/>.
    /// </param>
    /// <param name="options">The maths. Draw a fresh dropout seed for every call, see <see cref="DrawDropoutSeed"/>.</param>
    /// <param name="routerInput">What the input router reads instead of x, [.., d_in] of x's type; null: x.</param>
    /// <param name="mixture">p, [T, E], f32 (f64 beside f64 x), with <see cref="CoreRouter.Caller"/>; else null.</param>
    /// <param name="baseOutput">What the adapter is added to, [.., d_out] of x's type; null: nothing.</param>
    /// <returns>The output and p.</returns>
    /// <exception cref="ArgumentException">An argument is out of its range; the message names it.</exception>
    /// <exception cref="MoeBackendUnavailableException">There is no library for the tensors' device.</exception>
    /// <exception cref="MoeUnsupportedException">The tensors are f64 or the call strict, and they are not on the CPU.</exception>
    /// <exception cref="MoeBackwardException">An earlier backward failed.</exception>
    public static CoreMergeResult CoreMerge(
        Tensor x,
        Tensor a,
        Tensor b,
        Tensor cores,
        Tensor? router,
        CoreMergeOptions options,
        Tensor? routerInput = null,
        Tensor? mixture = null,
        Tensor? baseOutput = null) =>
        RunCoreMerge(new CoreMergeInputs(x, a, b, cores, router, routerInput, mixture, baseOutput), options, reuseBaseOutput: false);

    internal static CoreMergeResult RunCoreMerge(CoreMergeInputs inputs, CoreMergeOptions options, bool reuseBaseOutput)
    {
        BackwardGuard.ThrowIfPending();
        CoreMergePlan plan = CheckCoreMerge(inputs, options);
        using var scope = NewDisposeScope();
        var call = new CoreMergeCall(plan, reuseBaseOutput);
        Tensor output;
        if (AnyRequiresGrad(inputs.X, inputs.A, inputs.B, inputs.Cores, inputs.Router, inputs.RouterInput, inputs.Mixture, inputs.BaseOutput))
        {
            output = CoreMergeFunction.Apply(call, inputs);
        }
        else
        {
            using var noGrad = no_grad();
            call.Forward(inputs, saveForBackward: false);
            output = call.Output!;
        }
        return new CoreMergeResult(output, call.Mixture!).MoveToOuterDisposeScope();
    }

    private static CoreMergePlan CheckCoreMerge(CoreMergeInputs inputs, CoreMergeOptions options)
    {
        (Tensor x, Tensor a, Tensor b, Tensor cores, Tensor? router, Tensor? routerInput, Tensor? mixture, Tensor? baseOutput) = inputs;
        OpTensors.CheckFlags(options.Flags, nameof(options));
        OptionChecks.Defined(options.Router, nameof(options.Router));
        OptionChecks.NotNegative(options.Temperature, nameof(options.Temperature));
        OptionChecks.Probability(options.DropoutCoreP, nameof(options.DropoutCoreP));
        (DTypeSet types, long dIn, long dOut, long rank) = CheckFactors(x, a, b, options.BLayout, options.Scale, options.DropoutP, baseOutput);
        ArgumentNullException.ThrowIfNull(cores);
        OpTensors.CheckShape(cores, [-1, rank, rank], "[E, r, r]");
        OpTensors.CheckType(cores, a.dtype, " as a");
        OpTensors.CheckDevice(cores, x);
        long experts = cores.size(0);
        OptionChecks.InRange(experts, 1, global::MoEKernels.Gate.MaxExperts, "cores (the first dimension of cores)");

        long tokens = x.numel() / dIn;
        string because = $"{nameof(CoreRouter)}.{options.Router}";
        if (options.Router != CoreRouter.Caller)
            CheckRouter(router, [experts, options.Router == CoreRouter.Core ? rank : dIn], options.Router == CoreRouter.Core ? "[E, r]" : "[E, d_in]", a, because);
        else if (router is not null)
            throw OptionChecks.Error($"router is given, but the options say {because}.", nameof(router));
        CheckRouterInput(routerInput, x, dIn, options.Router == CoreRouter.Input, because);
        if (options.Router == CoreRouter.Caller)
        {
            ArgumentNullException.ThrowIfNull(mixture);
            OpTensors.CheckShape(mixture, [tokens, experts], "[T, E]");
            OpTensors.CheckType(mixture, TensorTypes.Accumulator(x.dtype), $" beside {x.dtype}");
            OpTensors.CheckDevice(mixture, x);
        }
        else if (mixture is not null)
        {
            throw OptionChecks.Error($"mixture is given, but the options say {because}.", nameof(mixture));
        }
        OpTensors.CheckBackend(x, options.Flags);
        return new CoreMergePlan(new CoreMergeShape(tokens, dIn, dOut, rank, experts), options, types);
    }
}
