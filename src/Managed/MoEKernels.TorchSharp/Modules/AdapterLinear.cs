using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A frozen <see cref="Linear"/> with a trainable adapter beside it: [.., d_in] to [.., d_out], y = W x + b + adapter(x).
/// </summary>
/// <remarks>
/// <para>
/// Names in <c>state_dict</c> follow PEFT: <c>base_layer.weight</c>, <c>base_layer.bias</c>, <c>lora_A.weight</c> [r, d_in] and
/// <c>lora_B.weight</c> [d_out, r]; derived classes add theirs. A starts as a linear layer's weight does, U(-1/sqrt(d_in), 1/sqrt(d_in)),
/// B as zeros, so a new adapter changes nothing.
/// </para>
/// <para>
/// The base layer's <c>forward</c> is computed directly, so hooks registered on the base layer do not run; register them on this module.
/// The base layer's parameters stop requiring gradients when the module is made.
/// </para>
/// </remarks>
public abstract class AdapterLinear : nn.Module<Tensor, Tensor>
{
    internal const string BaseLayerName = "base_layer";
    private const string LoraAName = "lora_A";
    private const string LoraBName = "lora_B";

    [ComponentName(Name = BaseLayerName)]
    private readonly Linear _baseLayer;

    [ComponentName(Name = LoraAName)]
    private readonly Linear _loraA;

    [ComponentName(Name = LoraBName)]
    private readonly Linear _loraB;

    private AdapterImplementation _implementation;

    private protected AdapterLinear(string name, Linear baseLayer, AdapterConfig config)
        : base(name)
    {
        ArgumentNullException.ThrowIfNull(baseLayer);
        ArgumentNullException.ThrowIfNull(config);
        config.Validate();

        ScalarType baseType = baseLayer.weight.dtype;
        if (!TensorTypes.IsSupported(baseType))
            throw new ArgumentException($"The base layer's weight is {baseType}; expected Float32, BFloat16, Float16 or Float64.", nameof(baseLayer));
        ParameterType = config.ParameterType ?? TensorTypes.Accumulator(baseType);
        if (!TensorTypes.AreCompatible(baseType, ParameterType))
            throw new ArgumentException($"{nameof(config.ParameterType)} is {ParameterType} beside a base layer of {baseType}; expected the same type, or Float32 beside BFloat16 or Float16.", nameof(config));

        Configuration = config;
        InFeatures = baseLayer.in_features;
        OutFeatures = baseLayer.out_features;

        _baseLayer = baseLayer;
        foreach (var parameter in baseLayer.parameters())
            parameter.requires_grad = false;
        _loraA = nn.Linear(InFeatures, config.Rank, hasBias: false, baseLayer.weight.device, ParameterType);
        _loraB = nn.Linear(config.Rank, OutFeatures, hasBias: false, baseLayer.weight.device, ParameterType);
        nn.init.zeros_(_loraB.weight);

        register_module(BaseLayerName, _baseLayer);
        register_module(LoraAName, _loraA);
        register_module(LoraBName, _loraB);
    }

    /// <summary>The wrapped layer.</summary>
    public Linear BaseLayer => _baseLayer;

    /// <summary>Input width d_in.</summary>
    public long InFeatures { get; }

    /// <summary>Output width d_out.</summary>
    public long OutFeatures { get; }

    /// <summary>The configuration that the adapter was made from.</summary>
    public AdapterConfig Configuration { get; }

    /// <summary>Whether the adapter takes part; false leaves the base layer alone. Default: true.</summary>
    public bool Enabled { get; set; } = true;

    /// <summary>
    /// What computes the adapter; may be switched at any time between two forward passes. Default:
    /// <see cref="AdapterImplementation.Fused"/>.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not one of the enumeration.</exception>
    public AdapterImplementation Implementation
    {
        get => _implementation;
        set
        {
            if (!Enum.IsDefined(value))
                throw new ArgumentOutOfRangeException(nameof(value), value, $"Expected a value of {nameof(AdapterImplementation)}.");
            _implementation = value;
        }
    }

    /// <summary>The trainable parameters of the adapter with their names in <c>state_dict</c>.</summary>
    public IEnumerable<(string name, Parameter parameter)> AdapterParameters() =>
        named_parameters().Where(entry => !IsOfBaseLayer(entry.name));

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The last dimension of <paramref name="input"/> is not d_in, or its type or device does not fit the layer's.</exception>
    public sealed override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (!Enabled)
            return BaseOutput(input);
        Check(input);
        return ForwardAdapted(input);
    }

    /// <summary>The adapter's own tensors, buffers included, by their names in <c>state_dict</c>.</summary>
    internal IEnumerable<(string Name, Tensor Tensor)> AdapterTensors() =>
        AdapterParameters().Select(entry => (entry.name, (Tensor)entry.parameter))
            .Concat(named_buffers().Where(entry => !IsOfBaseLayer(entry.name)));

    /// <summary>Lets go of the base layer, so that disposing this module leaves it alive.</summary>
    internal void ReleaseBaseLayer() => register_module(BaseLayerName, null!);

    private protected ScalarType ParameterType { get; }

    private protected Parameter LoraA => _loraA.weight;

    private protected Parameter LoraB => _loraB.weight;

    private protected abstract Tensor ForwardAdapted(Tensor input);

    private protected Tensor BaseOutput(Tensor input) => nn.functional.linear(input, _baseLayer.weight, _baseLayer.bias);

    private static bool IsOfBaseLayer(string name) => name.StartsWith(BaseLayerName + ".", StringComparison.Ordinal);

    private void Check(Tensor input)
    {
        int dimensions = (int)input.Dimensions;
        if (dimensions == 0 || input.size(dimensions - 1) != InFeatures)
            throw new ArgumentException($"The input has shape [{string.Join(", ", input.shape)}]; expected [.., {InFeatures}].", nameof(input));
        Parameter weight = _baseLayer.weight;
        if (input.dtype != weight.dtype)
            throw new ArgumentException($"The input is {input.dtype}; expected {weight.dtype} as the base layer's weight.", nameof(input));
        if (input.device_type != weight.device_type || input.device_index != weight.device_index)
            throw new ArgumentException($"The input is on {input.device}; expected {weight.device} as the base layer's weight.", nameof(input));
        if (!TensorTypes.AreCompatible(input.dtype, LoraA.dtype))
            throw new ArgumentException($"The input is {input.dtype} and the adapter's parameters are {LoraA.dtype}; expected the same type, or Float32 parameters below BFloat16 or Float16.", nameof(input));
    }
}
