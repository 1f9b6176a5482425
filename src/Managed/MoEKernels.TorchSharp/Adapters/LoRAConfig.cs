using System.Text.Json.Serialization;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>
/// LoRA and the methods that share its two factors: y = W x + s B A dropout(x), s = alpha / r. The defaults are PEFT's: r 8, alpha 8, no dropout.
/// Sources: arXiv 2106.09685 (LoRA), 2312.03732 (rsLoRA), 2402.12354 (LoRA+), 2402.09353 (DoRA), 2404.02948 (PiSSA), 2406.09044
/// (MiLoRA), 2406.01775 (OLoRA).
/// </summary>
/// <remarks>PEFT: <c>LoraConfig</c>. Trainable parameters of a layer: r (d_in + d_out), with DoRA d_out more.</remarks>
public sealed record LoRAConfig : AdapterConfig
{
    /// <summary>Makes the default configuration.</summary>
    public LoRAConfig()
    {
        Rank = 8;
        Alpha = 8;
    }

    /// <summary>rsLoRA: scale by alpha / sqrt(r) instead of alpha / r. Default: false. PEFT: <c>use_rslora</c>.</summary>
    [JsonPropertyName("use_rslora")]
    public bool RankStabilized { get; init; }

    /// <summary>
    /// DoRA: rows of W + s B A are scaled to trainable lengths m, W' = m (W + s B A) / |W + s B A|. Not together with
    /// <see cref="LoRAInit.Pissa"/>, <see cref="LoRAInit.Milora"/> and <see cref="LoRAInit.Olora"/>. Default: false. PEFT: <c>use_dora</c>.
    /// </summary>
    [JsonPropertyName("use_dora")]
    public bool UseDora { get; init; }

    /// <summary>How the factors start. Default: <see cref="LoRAInit.Kaiming"/>. PEFT: <c>init_lora_weights</c>.</summary>
    [JsonPropertyName("init_weights")]
    [JsonConverter(typeof(JsonStringEnumConverter<LoRAInit>))]
    public LoRAInit InitialWeights { get; init; }

    /// <summary>
    /// LoRA+: the learning rate of B as a multiple of that of A, more than 0; used by <see cref="AdapterHandle.ParameterGroups"/>. The paper finds
    /// 16 good. Default: 1. PEFT: <c>loraplus_lr_ratio</c>, an argument of its optimiser.
    /// </summary>
    [JsonPropertyName("loraplus_lr_ratio")]
    public double LearningRateRatio { get; init; } = 1;

    [JsonIgnore]
    internal double Scale => RankStabilized ? Alpha / Math.Sqrt(Rank) : Alpha / Rank;

    [JsonIgnore]
    internal bool TakesFromBase => InitialWeights is LoRAInit.Pissa or LoRAInit.Milora or LoRAInit.Olora;

    internal override AdapterLinear CreateModule(Linear baseLayer) =>
        UseDora ? new DoRALinear(baseLayer, this)
        : TakesFromBase ? SpectralLoRALinear.WithoutEntering(baseLayer, this)
        : new LoRALinear(baseLayer, this);

    internal override double LearningRateRatioOf(string parameter) =>
        parameter.StartsWith("lora_B", StringComparison.Ordinal) ? LearningRateRatio : 1;

    internal override void Validate()
    {
        base.Validate();
        if (!Enum.IsDefined(InitialWeights))
            throw new ArgumentOutOfRangeException(nameof(InitialWeights), InitialWeights, $"Expected a value of {nameof(LoRAInit)}.");
        if (!(LearningRateRatio > 0 && double.IsFinite(LearningRateRatio)))
            throw new ArgumentOutOfRangeException(nameof(LearningRateRatio), LearningRateRatio, "Expected a finite number above 0.");
        if (UseDora && TakesFromBase)
            throw new ArgumentException($"{nameof(InitialWeights)} is {InitialWeights} together with {nameof(UseDora)}; expected one of them.", nameof(InitialWeights));
        if (InitialWeights is LoRAInit.Pissa or LoRAInit.Milora && Alpha == 0)
            throw new ArgumentOutOfRangeException(nameof(Alpha), Alpha, $"Expected a number other than 0 with {InitialWeights}, whose factors are divided by the scale.");
    }
}
