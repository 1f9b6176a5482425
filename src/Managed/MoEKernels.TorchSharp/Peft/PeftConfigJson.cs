using System.Buffers;
using System.Collections.ObjectModel;
using System.Globalization;
using System.Text.Json;

namespace MoEKernels.TorchSharp;

/// <summary>Reads and writes <see cref="PeftConfig"/> as JSON.</summary>
internal static class PeftConfigJson
{
    public const string ActiveRanksField = "activate_r";
    public const string RankPartitionField = "rank_partition";
    public const string ExpertsField = "num_experts";
    public const string CoreRouterField = "core_router";

    private const int MaxBytes = 16 << 20;
    private const int MaxDepth = 64;

    // What the three writers put into every file. Fields at their default that are not in the writer's list are left out, because the
    // older PEFT inside SMoRA's and CoMoL's repositories refuses fields that it does not know.
    private static readonly string[] BaseFields =
        ["auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "revision", "task_type"];

    private static readonly string[] SMoRAFields =
    [
        .. BaseFields, "alpha_pattern", "bias", "fan_in_fan_out", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout",
        "modules_to_save", "r", "rank_pattern", "target_modules", "use_dora", "use_rslora",
    ];

    private static readonly string[] CoMoLFields =
        [.. BaseFields, "bias", "init_lora_weights", "lora_alpha", "lora_dropout", "lora_rank", "target_modules"];

    private static readonly string[] LoraFields = [.. SMoRAFields, "exclude_modules", "lora_bias"];

    /// <summary>The fields without a property that PEFT writes for a new LoRA.</summary>
    public static ReadOnlyDictionary<string, JsonElement> LoraDefaults { get; } = ParseFields(
        """
        {"alora_invocation_tokens": null, "arrow_config": null, "auto_mapping": null, "corda_config": null, "ensure_weight_tying": false,
         "eva_config": null, "kasa_config": null, "layer_replication": null, "loftq_config": {}, "lora_ga_config": null, "megatron_config": null,
         "megatron_core": "megatron.core", "monteclora_config": null, "qalora_group_size": 16, "target_parameters": null,
         "trainable_token_indices": null, "use_bdlora": null, "use_qalora": false, "velora_config": null}
        """);

    /// <summary>The same in SMoRA's repository, an older PEFT.</summary>
    public static ReadOnlyDictionary<string, JsonElement> SMoRADefaults { get; } = ParseFields(
        """
        {"activate_r": 8, "auto_mapping": null, "dense_compute": false, "epsilon_greedy": false, "layer_replication": null, "loftq_config": {},
         "megatron_config": null, "megatron_core": "megatron.core", "rank_partition": 1}
        """);

    /// <summary>The same in CoMoL's repository.</summary>
    public static ReadOnlyDictionary<string, JsonElement> CoMoLDefaults { get; } = ParseFields("""{"auto_mapping": null, "core_router": false, "num_experts": 4}""");

    public static long ActiveRanks(PeftConfig config) => Integer(config, ActiveRanksField, 8);

    public static long Integer(PeftConfig config, string field, long absent) =>
        !config.OtherFields.TryGetValue(field, out JsonElement value) ? absent
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) ? number
        : throw new InvalidDataException($"The field '{field}' is {Shorten(value)}; expected a whole number.");

    public static double Number(PeftConfig config, string field, double absent) =>
        !config.OtherFields.TryGetValue(field, out JsonElement value) ? absent
        : value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && double.IsFinite(number) ? number
        : throw new InvalidDataException($"The field '{field}' is {Shorten(value)}; expected a number.");

    public static bool Flag(PeftConfig config, string field, bool absent) =>
        !config.OtherFields.TryGetValue(field, out JsonElement value) ? absent
        : value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean()
        : throw new InvalidDataException($"The field '{field}' is {Shorten(value)}; expected true or false.");

    public static JsonElement ToElement<T>(T value) => JsonSerializer.SerializeToElement(value);

    public static PeftConfig Read(Stream stream, string source)
    {
        byte[] json = ReadBounded(stream, source);
        try
        {
            using var document = JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = MaxDepth });
            PeftConfig config = new Fields(document.RootElement, source).ToConfig();
            if (Problem(config) is { } problem)
                throw new InvalidDataException($"'{source}': {problem}");
            return config;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"'{source}' is not an adapter configuration: it is not JSON ({e.Message}).", e);
        }
    }

    public static byte[] Write(PeftConfig config)
    {
        if (Problem(config) is { } problem)
            throw new ArgumentException(problem, nameof(config));
        string[] always = config.PeftType switch
        {
            PeftConfig.SMoRAType => SMoRAFields,
            PeftConfig.CoMoLType => CoMoLFields,
            _ => LoraFields,
        };
        var fields = new SortedDictionary<string, Action<Utf8JsonWriter>>(StringComparer.Ordinal);
        void Add(string name, bool isDefault, Action<Utf8JsonWriter> write)
        {
            if (!isDefault || always.Contains(name))
                fields.Add(name, write);
        }

        Add("peft_type", false, json => json.WriteStringValue(config.PeftType));
        Add("task_type", config.TaskType is null, json => json.WriteStringValue(config.TaskType));
        Add("base_model_name_or_path", config.BaseModelNameOrPath is null, json => json.WriteStringValue(config.BaseModelNameOrPath));
        Add("revision", config.Revision is null, json => json.WriteStringValue(config.Revision));
        Add("inference_mode", !config.InferenceMode, json => json.WriteBooleanValue(config.InferenceMode));
        Add(RankField(config.PeftType), false, json => json.WriteNumberValue(config.Rank));
        Add("lora_alpha", false, json => WriteNumber(json, config.Alpha, isFloat: false));
        Add("lora_dropout", false, json => WriteNumber(json, config.Dropout, isFloat: true));
        Add("target_modules", config.TargetModules is null, json => WriteModules(json, config.TargetModules));
        Add("exclude_modules", config.ExcludeModules is null, json => WriteModules(json, config.ExcludeModules));
        Add("modules_to_save", config.ModulesToSave is null, json => WriteList(json, config.ModulesToSave, json.WriteStringValue));
        Add("fan_in_fan_out", !config.FanInFanOut, json => json.WriteBooleanValue(config.FanInFanOut));
        Add("bias", config.Bias == PeftBias.None, json => json.WriteStringValue(NameOf(config.Bias)));
        Add("lora_bias", !config.LoraBias, json => json.WriteBooleanValue(config.LoraBias));
        Add("use_rslora", !config.UseRsLora, json => json.WriteBooleanValue(config.UseRsLora));
        Add("use_dora", !config.UseDora, json => json.WriteBooleanValue(config.UseDora));
        Add("init_lora_weights", config.InitLoraWeights == "true", json => WriteInit(json, config.InitLoraWeights));
        Add("layers_to_transform", config.LayersToTransform is null, json => WriteList(json, config.LayersToTransform, json.WriteNumberValue));
        Add("layers_pattern", config.LayersPattern is null, json => WriteList(json, config.LayersPattern, json.WriteStringValue));
        Add("rank_pattern", config.RankPattern.Count == 0, json => WriteMap(json, config.RankPattern, json.WriteNumberValue));
        Add("alpha_pattern", config.AlphaPattern.Count == 0, json => WriteMap(json, config.AlphaPattern, value => WriteNumber(json, value, isFloat: false)));
        foreach ((string name, JsonElement value) in config.OtherFields)
        {
            if (!fields.TryAdd(name, value.WriteTo))
                throw new ArgumentException($"{nameof(PeftConfig.OtherFields)} has '{name}', which is a property.", nameof(config));
        }

        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, IndentSize = 2, NewLine = "\n" }))
        {
            json.WriteStartObject();
            foreach ((string name, Action<Utf8JsonWriter> write) in fields)
            {
                json.WritePropertyName(name);
                write(json);
            }
            json.WriteEndObject();
        }
        return buffer.WrittenSpan.ToArray();
    }

    public static string Shorten(JsonElement value)
    {
        string text = value.GetRawText();
        return text.Length <= 100 ? text : $"{text.AsSpan(0, 100)}…";
    }

    private static string? Problem(PeftConfig config)
    {
        if (string.IsNullOrEmpty(config.PeftType))
            return "The field 'peft_type' is empty.";
        if (config.Rank < 1)
            return $"The field '{RankField(config.PeftType)}' is {config.Rank}; expected at least 1.";
        if (!double.IsFinite(config.Alpha))
            return $"The field 'lora_alpha' is {config.Alpha}; expected a finite number.";
        if (!(config.Dropout >= 0 && config.Dropout < 1))
            return $"The field 'lora_dropout' is {config.Dropout.ToString(CultureInfo.InvariantCulture)}; expected 0 <= p < 1.";
        foreach ((string pattern, long rank) in config.RankPattern)
        {
            if (rank < 1)
                return $"The field 'rank_pattern' has {rank} for '{pattern}'; expected at least 1.";
        }
        foreach ((string pattern, double alpha) in config.AlphaPattern)
        {
            if (!double.IsFinite(alpha))
                return $"The field 'alpha_pattern' has {alpha} for '{pattern}'; expected a finite number.";
        }
        foreach ((string field, IEnumerable<string>? patterns) in new (string, IEnumerable<string>?)[]
        {
            ("rank_pattern", config.RankPattern.Keys), ("alpha_pattern", config.AlphaPattern.Keys),
            ("layers_pattern", config.LayersPattern), ("modules_to_save", config.ModulesToSave),
        })
        {
            foreach (string pattern in patterns ?? [])
            {
                if (string.IsNullOrEmpty(pattern))
                    return $"The field '{field}' has an empty name.";
                if (PythonRegex.Problem(pattern) is { } problem)
                    return $"The field '{field}': {problem}";
            }
        }
        if (config.TargetModules?.Pattern is not null && !config.TargetModules.IsAllLinear && (config.LayersToTransform ?? (object?)config.LayersPattern) is not null)
            return "The fields 'layers_to_transform' and 'layers_pattern' need a list of names as 'target_modules', not a regular expression.";
        if (config.LayersPattern is { Count: > 0 } && config.LayersToTransform is null)
            return "The field 'layers_pattern' needs 'layers_to_transform'.";
        if (config.UseDora && config.LoraBias)
            return "The fields 'use_dora' and 'lora_bias' exclude each other.";
        if (!Enum.IsDefined(config.Bias))
            return $"The field 'bias' is {config.Bias}; expected a value of {nameof(PeftBias)}.";
        return null;
    }

    private static string RankField(string peftType) => peftType == PeftConfig.CoMoLType ? "lora_rank" : "r";

    private static string NameOf(PeftBias bias) => bias switch { PeftBias.All => "all", PeftBias.LoraOnly => "lora_only", _ => "none" };

    private static byte[] ReadBounded(Stream stream, string source)
    {
        using var copy = new MemoryStream();
        byte[] piece = new byte[16 << 10];
        for (int read; (read = stream.Read(piece)) > 0;)
        {
            copy.Write(piece, 0, read);
            if (copy.Length > MaxBytes)
                throw new InvalidDataException($"'{source}' is not an adapter configuration: it has more than {MaxBytes} bytes.");
        }
        return copy.ToArray();
    }

    private static ReadOnlyDictionary<string, JsonElement> ParseFields(string json)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.EnumerateObject().ToDictionary(field => field.Name, field => field.Value.Clone(), StringComparer.Ordinal).AsReadOnly();
    }

    // Python tells 8 from 8.0, and so do PEFT's files: alpha is a whole number there as a rule, dropout never.
    private static void WriteNumber(Utf8JsonWriter json, double value, bool isFloat)
    {
        if (value == Math.Floor(value) && Math.Abs(value) < 1e15)
            json.WriteRawValue(value.ToString(isFloat ? "0.0" : "0", CultureInfo.InvariantCulture));
        else
            json.WriteNumberValue(value);
    }

    private static void WriteInit(Utf8JsonWriter json, string value)
    {
        if (value is "true" or "false")
            json.WriteBooleanValue(value == "true");
        else
            json.WriteStringValue(value);
    }

    private static void WriteModules(Utf8JsonWriter json, PeftModules? modules)
    {
        if (modules?.Pattern is { } pattern)
            json.WriteStringValue(pattern);
        else
            WriteList(json, modules?.Names, json.WriteStringValue);
    }

    private static void WriteList<T>(Utf8JsonWriter json, IReadOnlyList<T>? list, Action<T> write)
    {
        if (list is null)
        {
            json.WriteNullValue();
            return;
        }
        json.WriteStartArray();
        foreach (T item in list)
            write(item);
        json.WriteEndArray();
    }

    private static void WriteMap<T>(Utf8JsonWriter json, IReadOnlyDictionary<string, T> map, Action<T> write)
    {
        json.WriteStartObject();
        foreach ((string name, T value) in map)
        {
            json.WritePropertyName(name);
            write(value);
        }
        json.WriteEndObject();
    }

    /// <summary>The fields of a file; those that were asked for are taken out, the others stay.</summary>
    private sealed class Fields
    {
        private readonly string _source;
        private readonly Dictionary<string, JsonElement> _left = new(StringComparer.Ordinal);

        public Fields(JsonElement root, string source)
        {
            _source = source;
            if (root.ValueKind != JsonValueKind.Object)
                throw new InvalidDataException($"'{source}' is not an adapter configuration: it is not a JSON object.");
            foreach (JsonProperty property in root.EnumerateObject())
            {
                if (!_left.TryAdd(property.Name, property.Value.Clone()))
                    throw new InvalidDataException($"'{source}' is not an adapter configuration: it has the field '{property.Name}' twice.");
            }
        }

        public PeftConfig ToConfig()
        {
            if (!_left.ContainsKey("peft_type"))
                throw new InvalidDataException($"'{_source}' is not an adapter configuration: it has no field 'peft_type'.");
            string type = Text("peft_type") ?? string.Empty;
            var defaults = new PeftConfig();
            return new PeftConfig
            {
                PeftType = type,
                TaskType = Text("task_type"),
                BaseModelNameOrPath = Text("base_model_name_or_path"),
                Revision = Text("revision"),
                InferenceMode = Flag("inference_mode", defaults.InferenceMode),
                Rank = Take(RankField(type)) is { } rank ? Integer(RankField(type), rank) : defaults.Rank,
                Alpha = Take("lora_alpha") is { } alpha ? Number("lora_alpha", alpha) : defaults.Alpha,
                Dropout = Take("lora_dropout") is { } dropout ? Number("lora_dropout", dropout) : defaults.Dropout,
                TargetModules = Modules("target_modules"),
                ExcludeModules = Modules("exclude_modules"),
                ModulesToSave = Names("modules_to_save"),
                FanInFanOut = Flag("fan_in_fan_out", defaults.FanInFanOut),
                Bias = Text("bias") switch
                {
                    null or "none" => PeftBias.None,
                    "all" => PeftBias.All,
                    "lora_only" => PeftBias.LoraOnly,
                    { } other => throw Wrong("bias", ToElement(other), "\"none\", \"all\" or \"lora_only\""),
                },
                LoraBias = Flag("lora_bias", defaults.LoraBias),
                UseRsLora = Flag("use_rslora", defaults.UseRsLora),
                UseDora = Flag("use_dora", defaults.UseDora),
                InitLoraWeights = Init(defaults.InitLoraWeights),
                LayersToTransform = Take("layers_to_transform") is { } layers ? OneOrMany("layers_to_transform", layers, Integer) : null,
                LayersPattern = Names("layers_pattern"),
                RankPattern = Take("rank_pattern") is { } ranks ? Map("rank_pattern", ranks, Integer) : defaults.RankPattern,
                AlphaPattern = Take("alpha_pattern") is { } alphas ? Map("alpha_pattern", alphas, Number) : defaults.AlphaPattern,
                OtherFields = _left.AsReadOnly(),
            };
        }

        private JsonElement? Take(string field) => _left.Remove(field, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : null;

        private string? Text(string field) => Take(field) is { } value ? Text(field, value) : null;

        private string Text(string field, JsonElement value) => value.ValueKind == JsonValueKind.String ? value.GetString()! : throw Wrong(field, value, "a text");

        private bool Flag(string field, bool absent) => Take(field) is { } value
            ? value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong(field, value, "true or false")
            : absent;

        private long Integer(string field, JsonElement value) =>
            value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) ? number : throw Wrong(field, value, "a whole number");

        private double Number(string field, JsonElement value) =>
            value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) ? number : throw Wrong(field, value, "a number");

        private string Init(string absent) => Take("init_lora_weights") switch
        {
            null => absent,
            { ValueKind: JsonValueKind.True } => "true",
            { ValueKind: JsonValueKind.False } => "false",
            { ValueKind: JsonValueKind.String } text => text.GetString()!,
            { } other => throw Wrong("init_lora_weights", other, "true, false or a name"),
        };

        private PeftModules? Modules(string field)
        {
            if (Take(field) is not { } value)
                return null;
            try
            {
                return value.ValueKind == JsonValueKind.String
                    ? PeftModules.FromRegex(value.GetString()!)
                    : PeftModules.FromNames(OneOrMany(field, value, Text));
            }
            catch (ArgumentException e)
            {
                throw new InvalidDataException($"'{_source}': the field '{field}' is {Shorten(value)}; expected names or a regular expression ({e.Message}).", e);
            }
        }

        private List<string>? Names(string field) => Take(field) is { } value ? OneOrMany(field, value, Text) : null;

        private static List<T> OneOrMany<T>(string field, JsonElement value, Func<string, JsonElement, T> convert) =>
            value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray().Select(item => convert(field, item))] : [convert(field, value)];

        private ReadOnlyDictionary<string, T> Map<T>(string field, JsonElement value, Func<string, JsonElement, T> convert)
        {
            if (value.ValueKind != JsonValueKind.Object)
                throw Wrong(field, value, "an object");
            var map = new Dictionary<string, T>(StringComparer.Ordinal);
            foreach (JsonProperty property in value.EnumerateObject())
            {
                if (!map.TryAdd(property.Name, convert($"{field}.{property.Name}", property.Value)))
                    throw new InvalidDataException($"'{_source}': the field '{field}' has '{property.Name}' twice.");
            }
            return map.AsReadOnly();
        }

        private InvalidDataException Wrong(string field, JsonElement got, string expected) =>
            new($"'{_source}': the field '{field}' is {Shorten(got)}; expected {expected}.");
    }
}
