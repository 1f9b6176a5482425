using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

public static partial class AdapterExtensions
{
    /// <summary>
    /// Takes one step of load balancing in every adapter of the model that has a load bias, see <see cref="SMoRALinear.UpdateRouterBias"/>.
    /// Call it once per optimiser step.
    /// </summary>
    /// <param name="model">The model.</param>
    public static void UpdateRouterBias(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        foreach (nn.Module module in model.modules())
        {
            if (module is SMoRALinear { HasLoadBias: true } adapter)
                adapter.UpdateRouterBias();
        }
    }
}
