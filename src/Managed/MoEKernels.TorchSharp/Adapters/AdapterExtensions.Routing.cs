using System.ComponentModel;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

public static partial class AdapterExtensions
{
    /// <summary>
    /// Takes one step of load balancing in every module of the model that has a load bias, see <see cref="SMoRALinear.UpdateRouterBias"/> and
    /// <see cref="TopKGate.UpdateRouterBias"/>. Call it once per optimiser step: forward only counts.
    /// </summary>
    /// <param name="model">The model.</param>
    public static void UpdateRouterBiases(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        foreach (ILoadBalancedModule module in Distinct<ILoadBalancedModule>(model))
        {
            if (module.HasLoadBias)
                module.UpdateRouterBias();
        }
    }

    /// <summary>The former name of <see cref="UpdateRouterBiases"/>.</summary>
    /// <param name="model">The model.</param>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public static void UpdateRouterBias(this nn.Module model) => model.UpdateRouterBiases();

    /// <summary>
    /// The sum of the auxiliary losses that the model's modules made since the last call, weighted by their own factors: add it to the loss once per
    /// step, before backward. Zero when no module makes one.
    /// </summary>
    /// <param name="model">The model; every <see cref="IAuxiliaryLossModule"/> in it counts once.</param>
    /// <returns>A scalar, f32 unless the modules compute in f64.</returns>
    public static Tensor AuxiliaryLoss(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        Tensor? sum = null;
        foreach (IAuxiliaryLossModule module in Distinct<IAuxiliaryLossModule>(model))
        {
            if (module.TakeAuxiliaryLoss() is not { } loss)
                continue;
            sum = sum is null ? loss : sum + loss.to(sum.device);
        }
        return (sum ?? zeros([], dtype: ScalarType.Float32)).MoveToOuterDisposeScope();
    }

    /// <summary>What the model trains: counts and shares, in all and by module.</summary>
    /// <param name="model">A model, with or without adapters.</param>
    public static ParameterReport TrainableParameters(this nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return ParameterReport.Of(model);
    }

    // named_modules gives a module as often as it is registered.
    private static HashSet<T> Distinct<T>(nn.Module model)
        where T : class
    {
        var found = new HashSet<T>(ReferenceEqualityComparer.Instance);
        if (model is T own)
            found.Add(own);
        foreach (nn.Module module in model.modules())
        {
            if (module is T wanted)
                found.Add(wanted);
        }
        return found;
    }
}
