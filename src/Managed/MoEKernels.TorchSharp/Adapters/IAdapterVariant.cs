using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// What one adapter method does beside one <see cref="global::TorchSharp.Modules.Linear"/> with weight W [d_out, d_in]. Every
/// <see cref="AdapterLinear"/> is one; all but the routed ones are a change Delta of W.
/// </summary>
public interface IAdapterVariant
{
    /// <summary>
    /// Whether the adapter is one matrix for all tokens, so that <see cref="Delta"/> and <see cref="Merge"/> exist. False for SMoRA and CoMoL, whose
    /// weights depend on the token.
    /// </summary>
    bool CanMerge { get; }

    /// <summary>Whether the base weight contains the adapter at the moment.</summary>
    bool IsMerged { get; }

    /// <summary>
    /// Gives every parameter its starting value again, as in a new adapter. The layer then computes what it does without the adapter: exactly, or
    /// to rounding where the method moves a part of W into its factors (PiSSA, MiLoRA, OLoRA).
    /// </summary>
    /// <exception cref="InvalidOperationException">The adapter is merged.</exception>
    void Init();

    /// <summary>What merging adds to the base weight as it is now, [d_out, d_in], of the adapter's parameter type. Without dropout, without a graph.</summary>
    /// <exception cref="InvalidOperationException">The adapter cannot be one matrix, see <see cref="CanMerge"/>, or is merged.</exception>
    Tensor Delta();

    /// <summary>Adds the adapter to what the layer computes.</summary>
    /// <param name="input">x, [.., d_in], of the base weight's type.</param>
    /// <param name="output">W x + b and what other adapters have added, [.., d_out], of x's type. Not changed.</param>
    /// <returns>A new tensor of the shape of <paramref name="output"/>.</returns>
    Tensor Forward(Tensor input, Tensor output);

    /// <summary>
    /// Adds <see cref="Delta"/> to the base weight, so that the adapter costs nothing; forward then leaves it out. The weight from before is kept.
    /// Does nothing when it is merged already.
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// The adapter cannot be one matrix, is switched off, or another adapter of the layer depends on the base weight (DoRA).
    /// </exception>
    void Merge();

    /// <summary>
    /// Takes the adapter out of the base weight again. When nothing else is merged the weight has the bits it had before. Does nothing when the
    /// adapter is not merged.
    /// </summary>
    /// <exception cref="InvalidOperationException">Another adapter of the layer, which depends on the base weight, would be left beside a merged one.</exception>
    void Unmerge();
}
