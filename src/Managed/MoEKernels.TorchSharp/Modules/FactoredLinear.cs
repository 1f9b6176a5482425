using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>An adapter with LoRA's pair of factors, A [r, d_in] and B [d_out, r].</summary>
/// <remarks>
/// Names in <c>state_dict</c> follow PEFT: <c>lora_A.weight</c> and <c>lora_B.weight</c>. A starts as a linear layer's weight does,
/// U(-1/sqrt(d_in), 1/sqrt(d_in)), B as zeros, unless the method says otherwise.
/// </remarks>
public abstract class FactoredLinear : AdapterLinear
{
    private const string LoraAName = "lora_A";
    private const string LoraBName = "lora_B";

    [ComponentName(Name = LoraAName)]
    private readonly Linear _loraA;

    [ComponentName(Name = LoraBName)]
    private readonly Linear _loraB;

    private protected FactoredLinear(string name, Linear baseLayer, AdapterConfig config)
        : base(name, baseLayer, config)
    {
        _loraA = nn.Linear(InFeatures, config.Rank, hasBias: false, baseLayer.weight.device, ParameterType);
        _loraB = nn.Linear(config.Rank, OutFeatures, hasBias: false, baseLayer.weight.device, ParameterType);
        nn.init.zeros_(_loraB.weight);
        register_module(LoraAName, _loraA);
        register_module(LoraBName, _loraB);
    }

    private protected Parameter LoraA => _loraA.weight;

    private protected Parameter LoraB => _loraB.weight;

    private protected override ScalarType ParameterTypeNow => LoraA.dtype;

    private protected override void InitParameters()
    {
        nn.init.kaiming_uniform_(LoraA, Math.Sqrt(5));
        nn.init.zeros_(LoraB);
    }

    /// <summary>Adds scale B A x to an output, in place where that is allowed.</summary>
    private protected static Tensor AddProduct(Tensor x, Tensor a, Tensor b, double scale, Tensor output, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        Tensor down = nn.functional.linear(x.to(a.dtype), a);
        using Scalar factor = output.dtype == a.dtype ? scale : 1;
        // Below half precision the scale belongs to the f32 part: in the sum it would round the output's gradient before the factors see it.
        if (output.dtype != a.dtype)
            down = down * scale;
        Tensor delta = nn.functional.linear(down, b).to(output.dtype);
        // Autograd allows it in place, since no operation saved the base output.
        return mayOverwrite ? output.add_(delta, alpha: factor) : output.add(delta, alpha: factor).MoveToOuterDisposeScope();
    }
}
