using System.Text.Json.Serialization;
using TorchSharp;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>What every adapter has: which layers it wraps, its rank, its scale and its dropout.</summary>
/// <remarks>The JSON form, kept in the metadata of saved adapters, uses PEFT's field names where PEFT has the field.</remarks>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "peft_type")]
[JsonDerivedType(typeof(LoRAConfig), "LORA")]
[JsonDerivedType(typeof(LoHaConfig), "LOHA")]
[JsonDerivedType(typeof(LoKrConfig), "LOKR")]
[JsonDerivedType(typeof(SMoRAConfig), "SMORA")]
[JsonDerivedType(typeof(CoMoLConfig), "COMOL")]
[JsonDerivedType(typeof(CatConfig), "CAT")]
public abstract record AdapterConfig
{
    /// <summary>The entry of <see cref="TargetModules"/> that stands for every <see cref="Linear"/> of the model.</summary>
    public const string AllLinear = "all-linear";

    /// <summary>
    /// Which <see cref="Linear"/> layers to wrap. Each entry is <see cref="AllLinear"/>, a name that the layer's path ends with at a
    /// dot (<c>q_proj</c> or <c>attention.query</c>), a glob over the whole path (<c>blocks.[0-3].mlp.*</c>; <c>*</c> also
    /// spans dots, <c>?</c> is one character, <c>[!a-c]</c> any but those), or <c>regex:</c> and a regular expression for the whole path. Default:
    /// all of them. PEFT: <c>target_modules</c>, whose "all-linear" leaves out the output layer.
    /// </summary>
    [JsonPropertyName("target_modules")]
    public IReadOnlyList<string> TargetModules { get; init; } = [AllLinear];

    /// <summary>
    /// Layers that are not wrapped although <see cref="TargetModules"/> names them, in the same syntax. Default: none. PEFT: <c>exclude_modules</c>.
    /// </summary>
    [JsonPropertyName("exclude_modules")]
    public IReadOnlyList<string> ExcludeModules { get; init; } = [];

    /// <summary>
    /// Modules of any kind that are trained as a whole and saved with the adapter, in the same syntax; they are not wrapped. Their values from before
    /// come back while the adapter is switched off and when it is removed. Default: none. PEFT: <c>modules_to_save</c>.
    /// </summary>
    [JsonPropertyName("modules_to_save")]
    public IReadOnlyList<string> ModulesToSave { get; init; } = [];

    /// <summary>
    /// Which biases of the base model are trained and saved with the adapter: none, all, or those of the wrapped layers. Like
    /// <see cref="ModulesToSave"/>, their values from before come back while the adapter is switched off; in PEFT they do not. Default: none. PEFT: <c>bias</c>.
    /// </summary>
    [JsonPropertyName("bias")]
    [JsonConverter(typeof(JsonStringEnumConverter<PeftBias>))]
    public PeftBias Bias { get; init; }

    /// <summary>Rank r of the adapter, at least 1. PEFT: <c>r</c>.</summary>
    [JsonPropertyName("r")]
    public long Rank { get; init; }

    /// <summary>Numerator of the adapter's scale. PEFT: <c>lora_alpha</c>.</summary>
    [JsonPropertyName("lora_alpha")]
    public double Alpha { get; init; }

    /// <summary>
    /// Ranks of single layers instead of <see cref="Rank"/>; the keys have the syntax of <see cref="TargetModules"/>, the first that matches counts.
    /// Default: none. PEFT: <c>rank_pattern</c>, whose keys are regular expressions for the end of the path.
    /// </summary>
    [JsonPropertyName("rank_pattern")]
    public IReadOnlyDictionary<string, long> RankPattern { get; init; } = new Dictionary<string, long>();

    /// <summary>
    /// Numerators of the scale of single layers instead of <see cref="Alpha"/>, as <see cref="RankPattern"/>. Default: none. PEFT:
    /// <c>alpha_pattern</c>.
    /// </summary>
    [JsonPropertyName("alpha_pattern")]
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    /// <summary>Probability that an element of the adapter's input is dropped in training, 0 &lt;= p &lt; 1. PEFT: <c>lora_dropout</c>.</summary>
    [JsonPropertyName("lora_dropout")]
    public double Dropout { get; init; }

    /// <summary>
    /// Element type of the adapter's parameters. Null, the default: f32 below f32, f16 and bf16 base layers (mixed precision, as PEFT
    /// does it), f64 below f64 ones. PEFT: <c>autocast_adapter_dtype</c>, an argument of <c>get_peft_model</c>.
    /// </summary>
    [JsonIgnore]
    public torch.ScalarType? ParameterType { get; init; }

    internal abstract AdapterLinear CreateModule(Linear baseLayer);

    /// <summary>The learning rate of a parameter, by its name in the module, as a multiple of the others'.</summary>
    internal virtual double LearningRateRatioOf(string parameter) => 1;

    /// <summary>The configuration of one layer: this one, or with the overrides that match.</summary>
    internal virtual AdapterConfig ForLayer(string path)
    {
        AdapterConfig config = this;
        foreach ((string pattern, long rank) in RankPattern)
        {
            if (!new ModulePattern(pattern).Matches(path))
                continue;
            config = config with { Rank = rank };
            break;
        }
        foreach ((string pattern, double alpha) in AlphaPattern)
        {
            if (!new ModulePattern(pattern).Matches(path))
                continue;
            config = config with { Alpha = alpha };
            break;
        }
        return config;
    }

    internal virtual void Validate()
    {
        if (TargetModules is null || TargetModules.Count == 0)
            throw new ArgumentException($"{nameof(TargetModules)} is empty; expected at least one name, pattern or \"{AllLinear}\".", nameof(TargetModules));
        CheckPatterns(TargetModules, nameof(TargetModules));
        CheckPatterns(ExcludeModules, nameof(ExcludeModules));
        CheckPatterns(ModulesToSave, nameof(ModulesToSave));
        CheckPatterns(RankPattern?.Keys, nameof(RankPattern));
        CheckPatterns(AlphaPattern?.Keys, nameof(AlphaPattern));
        if (!Enum.IsDefined(Bias))
            throw new ArgumentOutOfRangeException(nameof(Bias), Bias, $"Expected a value of {nameof(PeftBias)}.");
        ArgumentOutOfRangeException.ThrowIfLessThan(Rank, 1, nameof(Rank));
        foreach ((string key, long rank) in RankPattern!)
        {
            if (rank < 1)
                throw new ArgumentOutOfRangeException(nameof(RankPattern), rank, $"Expected a rank of at least 1 for '{key}'.");
        }
        ThrowIfNotFinite(Alpha, nameof(Alpha));
        foreach ((_, double alpha) in AlphaPattern!)
            ThrowIfNotFinite(alpha, nameof(AlphaPattern));
        ThrowIfNotProbability(Dropout, nameof(Dropout));
        if (ParameterType is { } type && !TensorTypes.IsSupported(type))
            throw new ArgumentException($"{nameof(ParameterType)} is {type}; expected Float32, BFloat16, Float16 or Float64.", nameof(ParameterType));
    }

    private protected static void ThrowIfNotProbability(double value, string name)
    {
        if (!(value >= 0 && value < 1))
            throw new ArgumentOutOfRangeException(name, value, "Expected 0 <= p < 1.");
    }

    private static void ThrowIfNotFinite(double value, string name)
    {
        if (!double.IsFinite(value))
            throw new ArgumentOutOfRangeException(name, value, "Expected a finite number.");
    }

    private static void CheckPatterns(IEnumerable<string>? patterns, string name)
    {
        if (patterns is null)
            throw new ArgumentException($"{name} is null; expected a collection.", name);
        foreach (string pattern in patterns)
            _ = new ModulePattern(pattern, name);
    }
}
