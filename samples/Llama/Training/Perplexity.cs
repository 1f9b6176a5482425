using static TorchSharp.torch;

namespace Llama;

/// <summary>Measures a model on held-out text.</summary>
internal static class Perplexity
{
    /// <summary>The most blocks that are measured; they lie evenly over the text.</summary>
    public const int MostBlocks = 32;

    /// <summary>The loss of training: the mean cross entropy of the tokens that came, in nats.</summary>
    /// <param name="logits">Shape <c>[batch, context, vocabulary]</c>.</param>
    /// <param name="targets">int64 of shape <c>[batch, context]</c>.</param>
    /// <returns>A scalar in f32, whatever the type of the logits.</returns>
    public static Tensor Loss(Tensor logits, Tensor targets) =>
        nn.functional.cross_entropy(logits.view(-1, logits.size(2)).to(float32), targets.view(-1));

    /// <summary>e to the mean cross entropy of the held-out blocks: as many equally likely tokens would be as hard to guess among.</summary>
    /// <param name="model">The model; it is in evaluation mode afterwards.</param>
    /// <param name="blocks">The text.</param>
    /// <param name="batch">Blocks that go through the model at once.</param>
    /// <param name="cancellation">Stops between two batches.</param>
    public static double Of(CausalModel model, TokenBlocks blocks, int batch, CancellationToken cancellation)
    {
        int count = Math.Min(blocks.HeldOut.Count, MostBlocks);
        int[] measured = [.. Enumerable.Range(0, count).Select(i => blocks.HeldOut[(int)((long)i * blocks.HeldOut.Count / count)])];
        model.eval();
        using var noGradients = no_grad();
        double nats = 0;
        foreach (int[] starts in measured.Chunk(batch))
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            (Tensor inputs, Tensor targets) = blocks.Batch(starts);
            nats += Loss(model.call(inputs), targets).item<float>() * starts.Length;
        }

        return Math.Exp(nats / count);
    }
}
