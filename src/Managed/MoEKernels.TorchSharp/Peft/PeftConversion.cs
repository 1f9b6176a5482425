using System.Text.Json;

namespace MoEKernels.TorchSharp;

/// <summary>Between PEFT's configuration of an adapter and this library's, where both can say the same.</summary>
internal static class PeftConversion
{
    private const string Pissa = "pissa";
    private const string Olora = "olora";
    private const string BiasRateField = "bias_update_rate";
    private const string GateField = "gate";
    private const string GateEpsilonField = "gate_eps";
    private const string CoreDropoutField = "core_dropout";
    private const string MergedCoreDropoutField = "merged_core_dropout";

    // Fields that change what an adapter computes where they are neither null nor false.
    private static readonly string[] Decisive =
    [
        "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "monteclora_config", "target_parameters", "trainable_token_indices",
        "use_bdlora", "use_qalora",
    ];

    // Starts that also change the base weight by something that neither the file nor the base weight itself tells: random numbers, data, a quantisation. After PiSSA's and OLoRA's
    // the change follows from the base weight, and PEFT computes it anew when it loads one.
    private static readonly string[] ChangedBase = ["pissa_", "corda", "loftq", "lora_ga"];

    /// <exception cref="NotSupportedException">The adapter has something that this library's modules do not compute; the message names the field.</exception>
    public static AdapterConfig ToAdapterConfig(PeftAdapter adapter)
    {
        PeftConfig config = adapter.Config;
        ThrowIfNotSupported(adapter);
        AdapterConfig kind = config.PeftType switch
        {
            PeftConfig.SMoRAType => new SMoRAConfig
            {
                ActiveRanks = PeftConfigJson.ActiveRanks(config),
                RankPartition = PeftConfigJson.Integer(config, PeftConfigJson.RankPartitionField, 1),
                BiasUpdateRate = PeftConfigJson.Number(config, BiasRateField, new SMoRAConfig().BiasUpdateRate),
                Gate = GateOf(config),
                Epsilon = PeftConfigJson.Number(config, GateEpsilonField, 0),
            },
            PeftConfig.CoMoLType => new CoMoLConfig
            {
                Experts = PeftConfigJson.Integer(config, PeftConfigJson.ExpertsField, 4),
                Router = PeftConfigJson.Flag(config, PeftConfigJson.CoreRouterField, false) ? CoreRouter.Core : CoreRouter.Input,
                CoreDropout = PeftConfigJson.Number(config, CoreDropoutField, config.Dropout),
                MergedCoreDropout = PeftConfigJson.Number(config, MergedCoreDropoutField, 0),
            },
            _ => new LoRAConfig { RankStabilized = config.UseRsLora, UseDora = config.UseDora, InitialWeights = InitOf(config) },
        };
        // Longest first: a name also stands for every path that ends with it, and the first that matches counts.
        string[] paths = [.. adapter.Layers.Keys.OrderByDescending(path => path.Length).ThenBy(path => path, StringComparer.Ordinal)];
        return kind with
        {
            TargetModules = paths,
            ModulesToSave = config.ModulesToSave ?? [],
            Bias = config.Bias,
            Rank = config.Rank,
            Alpha = config.Alpha,
            Dropout = config.Dropout,
            RankPattern = config.RankPattern.Count == 0 ? new Dictionary<string, long>() : paths.ToDictionary(path => path, config.RankOf),
            AlphaPattern = config.AlphaPattern.Count == 0 ? new Dictionary<string, double>() : paths.ToDictionary(path => path, config.AlphaOf),
        };
    }

    /// <param name="config">The configuration.</param>
    /// <param name="paths">The layers that the adapter has.</param>
    /// <exception cref="NotSupportedException">PEFT has no form for the adapter.</exception>
    public static PeftConfig ToPeftConfig(AdapterConfig config, IEnumerable<string> paths)
    {
        // PEFT knows names and regular expressions; it replaces "all-linear" by the names it found, and so are globs here.
        bool plain = IsPlain(config.TargetModules) && IsPlain(config.ExcludeModules) && IsPlain(config.RankPattern.Keys) && IsPlain(config.AlphaPattern.Keys);
        string[] ordered = [.. paths.OrderByDescending(path => path.Length).ThenBy(path => path, StringComparer.Ordinal)];
        var common = new PeftConfig
        {
            Rank = config.Rank,
            Alpha = config.Alpha,
            Dropout = config.Dropout,
            Bias = config.Bias,
            TargetModules = PeftModules.FromNames(plain ? config.TargetModules : ordered.Order(StringComparer.Ordinal)),
            ExcludeModules = plain && config.ExcludeModules.Count > 0 ? PeftModules.FromNames(config.ExcludeModules) : null,
            ModulesToSave = config.ModulesToSave.Count == 0 ? null
                : IsPlain(config.ModulesToSave) ? config.ModulesToSave
                : throw new NotSupportedException($"{nameof(config.ModulesToSave)} is [{string.Join(", ", config.ModulesToSave)}]; PEFT knows names here, no globs."),
            RankPattern = plain || config.RankPattern.Count == 0 ? config.RankPattern : ordered.ToDictionary(path => path, path => config.ForLayer(path).Rank),
            AlphaPattern = plain || config.AlphaPattern.Count == 0 ? config.AlphaPattern : ordered.ToDictionary(path => path, path => config.ForLayer(path).Alpha),
        };
        return config switch
        {
            LoRAConfig { InitialWeights: LoRAInit.Milora } => throw new NotSupportedException($"{nameof(LoRAConfig.InitialWeights)} is {LoRAInit.Milora}, which PEFT does not have; {nameof(PeftAdapter.ExtractAsLora)} writes it as a plain LoRA."),
            LoRAConfig { InitialWeights: LoRAInit.Pissa } lora when lora.Alpha < 0 || lora.AlphaPattern.Values.Any(alpha => alpha < 0) =>
                throw new NotSupportedException($"{nameof(lora.InitialWeights)} is {LoRAInit.Pissa} with a negative {nameof(lora.Alpha)}, of which PEFT takes the root; {nameof(PeftAdapter.ExtractAsLora)} writes it as a plain LoRA."),
            LoRAConfig lora => common with
            {
                UseRsLora = lora.RankStabilized,
                UseDora = lora.UseDora,
                InitLoraWeights = lora.InitialWeights switch { LoRAInit.Gaussian => "gaussian", LoRAInit.Pissa => Pissa, LoRAInit.Olora => Olora, _ => "true" },
            },
            SMoRAConfig smora => common with { PeftType = PeftConfig.SMoRAType, OtherFields = FieldsOf(smora) },
            CoMoLConfig comol => common with { PeftType = PeftConfig.CoMoLType, OtherFields = FieldsOf(comol) },
            _ => throw new NotSupportedException($"A {config.GetType().Name} has no form in PEFT's files here; expected LoRA, rsLoRA, DoRA, SMoRA or CoMoL; {nameof(PeftAdapter.ExtractAsLora)} writes what is one LoRA."),
        };
    }

    private static bool IsPlain(IEnumerable<string> patterns) => patterns.All(text => text != AdapterConfig.AllLinear && !text.AsSpan().ContainsAny('*', '?'));

    private static LoRAInit InitOf(PeftConfig config) =>
        config.InitLoraWeights == Pissa ? LoRAInit.Pissa
        : string.Equals(config.InitLoraWeights, Olora, StringComparison.OrdinalIgnoreCase) ? LoRAInit.Olora
        : LoRAInit.Kaiming;

    private static SMoRAGate GateOf(PeftConfig config) =>
        !config.OtherFields.TryGetValue(GateField, out JsonElement gate) ? SMoRAGate.Sigmoid
        : gate.ValueKind == JsonValueKind.String && Enum.TryParse(gate.GetString(), out SMoRAGate value) && Enum.IsDefined(value) ? value
        : throw new InvalidDataException($"The field '{GateField}' is {PeftConfigJson.Shorten(gate)}; expected one of {string.Join(", ", Enum.GetNames<SMoRAGate>())}.");

    // What the authors' configurations cannot say is added only where it is not what their code does.
    private static Dictionary<string, JsonElement> FieldsOf(SMoRAConfig config)
    {
        var fields = new Dictionary<string, JsonElement>(PeftConfigJson.SMoRADefaults)
        {
            [PeftConfigJson.ActiveRanksField] = PeftConfigJson.ToElement(config.ActiveRanks),
            [PeftConfigJson.RankPartitionField] = PeftConfigJson.ToElement(config.RankPartition),
        };
        if (config.BiasUpdateRate != new SMoRAConfig().BiasUpdateRate)
            fields.Add(BiasRateField, PeftConfigJson.ToElement(config.BiasUpdateRate));
        if (config.Gate != SMoRAGate.Sigmoid)
            fields.Add(GateField, PeftConfigJson.ToElement(config.Gate.ToString()));
        if (config.Epsilon != 0)
            fields.Add(GateEpsilonField, PeftConfigJson.ToElement(config.Epsilon));
        return fields;
    }

    private static Dictionary<string, JsonElement> FieldsOf(CoMoLConfig config)
    {
        var fields = new Dictionary<string, JsonElement>(PeftConfigJson.CoMoLDefaults)
        {
            [PeftConfigJson.ExpertsField] = PeftConfigJson.ToElement(config.Experts),
            [PeftConfigJson.CoreRouterField] = PeftConfigJson.ToElement(config.Router == CoreRouter.Core),
        };
        if (config.CoreDropout != config.Dropout)
            fields.Add(CoreDropoutField, PeftConfigJson.ToElement(config.CoreDropout));
        if (config.MergedCoreDropout != 0)
            fields.Add(MergedCoreDropoutField, PeftConfigJson.ToElement(config.MergedCoreDropout));
        return fields;
    }

    private static void ThrowIfNotSupported(PeftAdapter adapter)
    {
        PeftConfig config = adapter.Config;
        if (adapter.Layers.Count == 0)
            throw new NotSupportedException("The adapter has no layer.");
        if (config.LoraBias)
            throw new NotSupportedException("The field 'lora_bias' is true; B has no bias here.");
        if (ChangedBase.Any(name => config.InitLoraWeights.StartsWith(name, StringComparison.Ordinal)))
            throw new NotSupportedException($"The field 'init_lora_weights' is '{config.InitLoraWeights}', whose factors go with a changed base weight that the file does not hold; convert the adapter to a plain LoRA with PEFT.");
        if (config.UseDora && InitOf(config) != LoRAInit.Kaiming)
            throw new NotSupportedException($"The field 'init_lora_weights' is '{config.InitLoraWeights}' beside 'use_dora'; the two are not computed together here.");
        foreach (string field in Decisive)
        {
            if (config.OtherFields.TryGetValue(field, out JsonElement value) && value.ValueKind is not (JsonValueKind.Null or JsonValueKind.False))
                throw new NotSupportedException($"The field '{field}' is {PeftConfigJson.Shorten(value)}, which is not computed here.");
        }
        if (adapter.Layers.Values.FirstOrDefault(layer => layer.IsEmbedding || layer.A.dim() != 2) is { } other)
            throw new NotSupportedException($"The layer '{other.Path}' is {(other.IsEmbedding ? "an embedding" : "a convolution")}; expected linear layers.");
    }
}
