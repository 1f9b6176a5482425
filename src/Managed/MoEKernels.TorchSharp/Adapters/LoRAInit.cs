namespace MoEKernels.TorchSharp;

/// <summary>How LoRA's factors start. PEFT's field: <c>init_lora_weights</c>.</summary>
public enum LoRAInit
{
    /// <summary>A as a linear layer's weight, B zeros. PEFT: <c>true</c>.</summary>
    Kaiming = 0,

    /// <summary>A normal with deviation 1 / r, B zeros. PEFT: <c>"gaussian"</c>.</summary>
    Gaussian = 1,

    /// <summary>
    /// The factors hold the r largest singular triplets of the base weight, which keeps the rest. PEFT: <c>"pissa"</c>. Source: arXiv 2404.02948.
    /// </summary>
    Pissa = 2,

    /// <summary>The factors hold the r smallest singular triplets of the base weight, which keeps the rest. Source: arXiv 2406.09044.</summary>
    Milora = 3,

    /// <summary>
    /// The factors hold the first r columns and rows of the base weight's QR decomposition, times the scale; the base weight keeps the rest. PEFT:
    /// <c>"olora"</c>. Source: arXiv 2406.01775.
    /// </summary>
    Olora = 4,
}
