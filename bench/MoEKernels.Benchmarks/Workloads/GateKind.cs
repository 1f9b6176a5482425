namespace MoEKernels.Benchmarks.Workloads;

/// <summary>Published gates.</summary>
public enum GateKind
{
    /// <summary>Top-k of the softmax, renormalised to 1 (Mixtral, MixLoRA).</summary>
    Softmax,

    /// <summary>Top-k of the softmax as it is (DeepSeekMoE).</summary>
    SoftmaxRaw,

    /// <summary>Sigmoid, a load bias in the selection only, renormalised to 1 (DeepSeek-V3).</summary>
    SigmoidSelectionBias,

    /// <summary>Sigmoid plus load bias, renormalised to k (SMoRA).</summary>
    SigmoidWeightBias,

    /// <summary>Softmax over all experts, none left out.</summary>
    Dense,
}
