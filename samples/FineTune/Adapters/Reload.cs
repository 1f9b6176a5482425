using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>Checks that a saved adapter is the adapter.</summary>
internal static class Reload
{
    /// <summary>Whether the model gives the same bits after the adapter was taken out and loaded from its file.</summary>
    /// <param name="model">The model with the adapter; it has none afterwards.</param>
    /// <param name="adapter">The adapter, which is disposed.</param>
    /// <param name="file">The file that the adapter was saved to.</param>
    /// <param name="evaluation">Where inputs come from.</param>
    public static bool GivesSameBits(
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
        return before.contiguous().bytes.SequenceEqual(after.contiguous().bytes);
    }
}
