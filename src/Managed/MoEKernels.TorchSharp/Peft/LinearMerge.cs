namespace MoEKernels.TorchSharp;

/// <summary>Where <see cref="PeftMath.Linear"/> puts the weights.</summary>
public enum LinearMerge
{
    /// <summary>Their roots on both factors, signs on A: PEFT's <c>linear</c>.</summary>
    SplitRoot = 0,

    /// <summary>On B alone: the baseline "linear" of LoRA Soups.</summary>
    WeightsOnB = 1,
}
