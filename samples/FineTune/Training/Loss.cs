using static TorchSharp.torch;

namespace FineTune;

/// <summary>The training objective.</summary>
internal static class Loss
{
    /// <summary>Divide by this to turn nats into bits.</summary>
    public static readonly double NatsPerBit = Math.Log(2);

    /// <summary>The cross entropy of predicted bytes.</summary>
    /// <param name="logits">Shape <c>[batch, length, 256]</c>.</param>
    /// <param name="targets">The bytes that came, int64 of shape <c>[batch, length]</c>.</param>
    /// <param name="reduction">Mean or sum over all bytes.</param>
    /// <returns>A scalar in nats.</returns>
    public static Tensor Nats(Tensor logits, Tensor targets, nn.Reduction reduction = nn.Reduction.Mean) =>
        nn.functional.cross_entropy(logits.view(-1, ByteTransformer.Symbols), targets.view(-1), reduction: reduction);
}
