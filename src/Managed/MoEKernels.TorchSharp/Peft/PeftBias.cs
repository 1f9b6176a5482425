namespace MoEKernels.TorchSharp;

/// <summary>Which biases of the base model are trained and saved with an adapter, PEFT's <c>bias</c>.</summary>
public enum PeftBias
{
    /// <summary>None, PEFT's <c>none</c>.</summary>
    None = 0,

    /// <summary>All biases of the model, PEFT's <c>all</c>.</summary>
    All = 1,

    /// <summary>Those of the adapted layers, PEFT's <c>lora_only</c>.</summary>
    LoraOnly = 2,
}
