using System.Text.Json.Serialization;
using TorchSharp;
using TorchSharp.Modules;

namespace MoEKernels.TorchSharp;

/// <summary>What every adapter has: which layers it wraps, its rank, its scale and its dropout.</summary>
/// <remarks>The JSON form, kept in the metadata of saved adapters, uses PEFT's field names where PEFT has the field.</remarks>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "peft_type")]
[JsonDerivedType(typeof(LoRAConfig), "LORA")]
[JsonDerivedType(typeof(SMoRAConfig), "SMORA")]
[JsonDerivedType(typeof(CoMoLConfig), "COMOL")]
public abstract record AdapterConfig
{
    /// <summary>The entry of <see cref="TargetModules"/> that stands for every <see cref="Linear"/> of the model.</summary>
    public const string AllLinear = "all-linear";

    /// <summary>
    /// Which <see cref="Linear"/> layers to wrap. Each entry is <see cref="AllLinear"/>, a name that the layer's path ends with at a
    /// dot (<c>q_proj</c> or <c>attention.query</c>), or a glob over the whole path (<c>blocks.?.mlp.*</c>; <c>*</c> also
    /// spans dots). Default: all of them.
    /// </summary>
    [JsonPropertyName("target_modules")]
    public IReadOnlyList<string> TargetModules { get; init; } = [AllLinear];

    /// <summary>Layers that are not wrapped although <see cref="TargetModules"/> names them, in the same syntax. Default: none.</summary>
    [JsonPropertyName("exclude_modules")]
    public IReadOnlyList<string> ExcludeModules { get; init; } = [];

    /// <summary>Rank r of the adapter, at least 1.</summary>
    [JsonPropertyName("r")]
    public long Rank { get; init; }

    /// <summary>Numerator of the adapter's scale.</summary>
    [JsonPropertyName("lora_alpha")]
    public double Alpha { get; init; }

    /// <summary>Probability that an element of the adapter's input is dropped in training, 0 &lt;= p &lt; 1.</summary>
    [JsonPropertyName("lora_dropout")]
    public double Dropout { get; init; }

    /// <summary>
    /// Element type of the adapter's parameters. Null, the default: f32 below f32, f16 and bf16 base layers (mixed precision, as PEFT
    /// does it), f64 below f64 ones.
    /// </summary>
    [JsonIgnore]
    public torch.ScalarType? ParameterType { get; init; }

    internal abstract AdapterLinear CreateModule(Linear baseLayer);

    internal virtual void Validate()
    {
        if (TargetModules is null || TargetModules.Count == 0)
            throw new ArgumentException($"{nameof(TargetModules)} is empty; expected at least one name, pattern or \"{AllLinear}\".", nameof(TargetModules));
        ArgumentOutOfRangeException.ThrowIfLessThan(Rank, 1, nameof(Rank));
        if (!double.IsFinite(Alpha))
            throw new ArgumentOutOfRangeException(nameof(Alpha), Alpha, "Expected a finite number.");
        ThrowIfNotProbability(Dropout, nameof(Dropout));
        if (ParameterType is { } type && !TensorTypes.IsSupported(type))
            throw new ArgumentException($"{nameof(ParameterType)} is {type}; expected Float32, BFloat16, Float16 or Float64.", nameof(ParameterType));
    }

    private protected static void ThrowIfNotProbability(double value, string name)
    {
        if (!(value >= 0 && value < 1))
            throw new ArgumentOutOfRangeException(name, value, "Expected 0 <= p < 1.");
    }
}
