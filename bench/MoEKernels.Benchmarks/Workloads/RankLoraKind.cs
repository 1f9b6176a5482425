namespace MoEKernels.Benchmarks.Workloads;

/// <summary>Published forms of rank-wise LoRA.</summary>
public enum RankLoraKind
{
    /// <summary>Router, sigmoid plus load bias, top-k, renormalised to k.</summary>
    SMoRA,

    /// <summary>Router, softmax over the k selected ranks: SMoRA's older form.</summary>
    SoftmaxRouter,

    /// <summary>The k largest |A x|, no weights.</summary>
    FlyLoRA,

    /// <summary>Softmax over the L2-normalised A x, its k largest.</summary>
    MoRA,
}
