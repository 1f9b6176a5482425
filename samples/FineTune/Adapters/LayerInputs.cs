using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>What one adapted layer sees in a training step.</summary>
/// <param name="Name">The layer's path in the model.</param>
/// <param name="Module">The layer with its adapter.</param>
/// <param name="Input">Its input, shape <c>[batch, length, d_in]</c>, which wants a gradient like in the middle of a model.</param>
/// <param name="OutputGradient">A gradient for its output, shape <c>[batch, length, d_out]</c>.</param>
internal sealed record LayerInputs(string Name, AdapterLinear Module, Tensor Input, Tensor OutputGradient)
{
    /// <summary>Runs the model once and keeps what goes into each adapted layer.</summary>
    /// <param name="model">The model with the adapter.</param>
    /// <param name="adapter">The adapter's handle.</param>
    /// <param name="inputs">Bytes, int64 of shape <c>[batch, length]</c>.</param>
    /// <returns>One entry for each layer; the tensors belong to the caller's dispose scope.</returns>
    public static IReadOnlyList<LayerInputs> Capture(
        nn.Module<Tensor, Tensor> model, AdapterHandle adapter, Tensor inputs)
    {
        Dictionary<string, Tensor> captured = [];
        var hooks = adapter.Layers
            .Select(layer => layer.Value.register_forward_pre_hook((_, input) =>
            {
                captured[layer.Key] = input.detach().clone();
                return input;
            }))
            .ToList();
        try
        {
            using var noGradients = no_grad();
            model.call(inputs);
        }
        finally
        {
            hooks.ForEach(hook => hook.remove());
        }

        return [.. adapter.Layers.Select(layer =>
        {
            Tensor input = captured[layer.Key].requires_grad_(true);
            Tensor gradient = ones([input.size(0), input.size(1), layer.Value.OutFeatures]);
            return new LayerInputs(layer.Key, layer.Value, input, gradient);
        })];
    }
}
