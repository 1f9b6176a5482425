namespace MoEKernels;

/// <summary>Where the per-rank gates of <see cref="RankLora"/> come from. a = A x~, x~ = dropout(x).</summary>
public enum RankGate
{
    /// <summary>
    /// A router: z = W_r x~, then the maths of <see cref="Gate"/> with top-k selection (SMoRA, Split-LoRA).
    /// </summary>
    Router = 0,

    /// <summary>Ids and gates are inputs.</summary>
    Caller = 1,

    /// <summary>The K largest a + bias; every gate is 1 (FlyLoRA, arXiv 2510.08396, the signed form).</summary>
    ActivationSigned = 2,

    /// <summary>The K largest |a + bias|; every gate is 1 (FlyLoRA, the absolute form).</summary>
    ActivationAbsolute = 3,

    /// <summary>
    /// w = softmax(a / (|a|_2 + eps) / temperature) over all R; the K largest w that reach the threshold (MoRA, arXiv
    /// 2506.21035).
    /// </summary>
    ActivationSoftmax = 4,
}
