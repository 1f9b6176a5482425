namespace Samples;

/// <summary>The adapters that the samples know by name.</summary>
internal enum AdapterKind
{
    /// <summary>Plain LoRA: <c>y = W x + (alpha / r) B A x</c>.</summary>
    Lora,

    /// <summary>LoRA with the scale alpha / √r.</summary>
    RsLora,

    /// <summary>LoRA whose B learns faster than its A.</summary>
    LoraPlus,

    /// <summary>LoRA that also trains the length of every row of the adapted weight.</summary>
    Dora,

    /// <summary>LoRA that starts from the largest singular triplets of the weight.</summary>
    Pissa,

    /// <summary>LoRA that starts from the smallest singular triplets of the weight.</summary>
    Milora,

    /// <summary>The element-wise product of two low-rank matrices.</summary>
    LoHa,

    /// <summary>A Kronecker product of two small matrices.</summary>
    LoKr,

    /// <summary>SMoRA: one LoRA whose ranks are the experts; a router picks <c>k</c> of them for each token.</summary>
    SMoRA,

    /// <summary>CoMoL: one LoRA with small core matrices between A and B, mixed for each token by a router.</summary>
    CoMoL,
}
