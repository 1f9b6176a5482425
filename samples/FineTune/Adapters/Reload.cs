using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>What became of the model's output after the adapter was taken out and loaded from its file.</summary>
/// <param name="IsIdentical">Whether every bit is the same.</param>
/// <param name="LargestDifference">The largest difference of two logits, relative to the largest logit.</param>
internal sealed record Reload(bool IsIdentical, double LargestDifference)
{
    /// <summary>
    /// PiSSA and MiLoRA take a part of the base weight and put it back, to the weight's rounding, when they leave: after that, a reloaded one
    /// can differ in the last bits.
    /// </summary>
    private const double RoundingOfTheBase = 1e-4;

    /// <summary>Whether the saved adapter is the adapter: the same bits, or the same to rounding where the method changes the base weight.</summary>
    /// <param name="kind">The method.</param>
    public bool IsFaithful(AdapterKind kind) =>
        IsIdentical || (kind is AdapterKind.Pissa or AdapterKind.Milora && LargestDifference < RoundingOfTheBase);

    /// <summary>Takes the adapter out and loads it from its file.</summary>
    /// <param name="model">The model with the adapter; it has none afterwards.</param>
    /// <param name="adapter">The adapter, which is disposed.</param>
    /// <param name="file">The file that the adapter was saved to.</param>
    /// <param name="evaluation">Where inputs come from.</param>
    public static Reload Check(
        nn.Module<Tensor, Tensor> model, AdapterHandle adapter, string file, Evaluation evaluation)
    {
        using var scope = NewDisposeScope();
        using var noGradients = no_grad();
        model.eval();
        Tensor inputs = cat([.. evaluation.Inputs.Select(set => set.Inputs.narrow(0, 0, 1))]);
        Tensor before = model.call(inputs);

        adapter.Dispose();
        using AdapterHandle reloaded = model.LoadAdapter(file);
        model.eval();
        Tensor after = model.call(inputs);
        model.train();

        // Byte by byte, since as numbers a NaN does not equal itself and 0 equals -0.
        bool identical = before.contiguous().bytes.SequenceEqual(after.contiguous().bytes);
        double difference = (after - before).abs().max().item<float>() / before.abs().max().item<float>();
        return new Reload(identical, difference);
    }
}
