using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>Parameters that share a learning rate, see <see cref="AdapterHandle.ParameterGroups"/>.</summary>
/// <param name="LearningRate">Their learning rate.</param>
/// <param name="Parameters">The parameters.</param>
public sealed record AdapterParameterGroup(double LearningRate, IReadOnlyList<Parameter> Parameters)
{
    /// <summary>The group as TorchSharp's AdamW takes it.</summary>
    /// <param name="weightDecay">Decoupled weight decay. Default: 0.</param>
    public AdamW.ParamGroup ToAdamW(double weightDecay = 0) => new(Parameters, lr: LearningRate, weight_decay: weightDecay);
}
