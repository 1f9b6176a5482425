using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Reference;

public static partial class ReferenceOps
{
    /// <summary>Core-space merging, as <see cref="MoeFunctional.CoreMerge"/>. Source: arXiv 2603.00573 (CoMoL).</summary>
    /// <param name="x">[.., d_in].</param>
    /// <param name="a">A, [r, d_in].</param>
    /// <param name="b">B, [d_out, r] or [r, d_out], see the options.</param>
    /// <param name="cores">C, [E, r, r]; u multiplies from the left: v_j = sum_i u_i C[e, i, j].</param>
    /// <param name="router">W_g, [E, r] (<see cref="CoreRouter.Core"/>) or [E, d_in] (<see cref="CoreRouter.Input"/>); else null.</param>
    /// <param name="options">
    /// The maths. Dropout seed, offset and flags are not read: masks come from TorchSharp's generator, or from the mask arguments.
    /// </param>
    /// <param name="routerInput">What the input router reads instead of x, [.., d_in].</param>
    /// <param name="mixture">p, [T, E], with <see cref="CoreRouter.Caller"/>.</param>
    /// <param name="form">How to write the product.</param>
    /// <param name="mergedCoreDropoutP">
    /// Probability that an element of a token's merged core is dropped, 0 &lt;= p &lt; 1; not 0 only with
    /// <see cref="CoreMergeForm.Einsum"/>.
    /// </param>
    /// <param name="dropoutMask">Mask on x with the values 0 and 1 / (1 - p), [T, d_in] of x's type, instead of a random one.</param>
    /// <param name="coreDropoutMask">The same on v, [T, r].</param>
    /// <returns>The output and p.</returns>
    /// <exception cref="ArgumentException">Dropout on the merged core with the stacked form, which has none.</exception>
    public static CoreMergeResult CoreMerge(
        Tensor x,
        Tensor a,
        Tensor b,
        Tensor cores,
        Tensor? router,
        CoreMergeOptions options,
        Tensor? routerInput = null,
        Tensor? mixture = null,
        CoreMergeForm form = CoreMergeForm.Stacked,
        double mergedCoreDropoutP = 0,
        Tensor? dropoutMask = null,
        Tensor? coreDropoutMask = null)
    {
        ArgumentNullException.ThrowIfNull(x);
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        ArgumentNullException.ThrowIfNull(cores);
        if (mergedCoreDropoutP != 0 && form != CoreMergeForm.Einsum)
            throw new ArgumentException($"Dropout on the merged core needs {nameof(CoreMergeForm)}.{nameof(CoreMergeForm.Einsum)}; got {form}.", nameof(form));
        using var scope = NewDisposeScope();
        (long experts, long rank) = (cores.size(0), cores.size(1));
        Tensor rows = x.reshape(-1, a.size(1));
        Tensor u = nn.functional.linear(Drop(rows, options.DropoutP, dropoutMask).to(a.dtype), a);

        Tensor p = mixture ?? Mix(rows, u, router!, routerInput, options).to(TensorTypes.Accumulator(x.dtype));
        Tensor weights = p.to(u.dtype);
        Tensor v;
        if (form == CoreMergeForm.Stacked)
        {
            Tensor outer = (weights.unsqueeze(-1) * u.unsqueeze(-2)).reshape(-1, experts * rank);
            v = outer.matmul(cores.reshape(experts * rank, rank));
        }
        else
        {
            Tensor merged = Drop(einsum("te,eij->tij", weights, cores), mergedCoreDropoutP, mask: null);
            v = einsum("ti,tij->tj", u, merged);
        }
        Tensor scaled = Drop(v, options.DropoutCoreP, coreDropoutMask) * options.Scale;
        Tensor y = options.BLayout == BLayout.OutByRank ? nn.functional.linear(scaled, b) : scaled.matmul(b);
        long[] shape = x.shape;
        shape[^1] = y.size(1);
        return new CoreMergeResult(y.to(x.dtype).reshape(shape), p.detach()).MoveToOuterDisposeScope();
    }

    private static Tensor Mix(Tensor rows, Tensor u, Tensor router, Tensor? routerInput, CoreMergeOptions options)
    {
        Tensor logits = options.Router == CoreRouter.Core
            ? nn.functional.linear(u, router)
            : nn.functional.linear((routerInput?.reshape(-1, router.size(1)) ?? rows).to(router.dtype), router);
        return (options.Temperature is 0 or 1 ? logits : logits / options.Temperature).softmax(-1);
    }
}
