namespace Llama;

/// <summary>Reads a Hugging Face config.json. What would change the computation and is not computed here is an error.</summary>
internal static class ModelConfigReader
{
    /// <summary>The name of the file.</summary>
    public const string FileName = "config.json";

    private const string GenerationFileName = "generation_config.json";
    private const string EndTokensField = "eos_token_id";
    private const string FullAttention = "full_attention";

    /// <summary>Qwen: layers below this number see everything even where a window is on.</summary>
    private const int DefaultFullLayers = 28;

    /// <summary>Qwen 3: the width of a head where the file does not say it.</summary>
    private const int Qwen3HeadWidth = 128;

    private static readonly (string Name, ModelFamily Family)[] Families =
    [
        ("llama", ModelFamily.Llama), ("qwen2", ModelFamily.Qwen2), ("qwen3", ModelFamily.Qwen3),
    ];

    /// <summary>The names of the families, for people.</summary>
    public static string FamilyNames { get; } = string.Join(", ", Families.Select(entry => entry.Name));

    /// <summary>config.json's name of a family.</summary>
    public static string NameOf(ModelFamily family) => Families.First(entry => entry.Family == family).Name;

    /// <summary>The family with a name; null: there is none.</summary>
    public static ModelFamily? FamilyOf(string name)
    {
        foreach ((string known, ModelFamily family) in Families)
        {
            if (known == name)
                return family;
        }

        return null;
    }

    /// <summary>Reads the configuration of a model folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <exception cref="UserException">There is none, a field is missing or wrong, or the model has something that is not computed here.</exception>
    public static ModelConfig Read(string folder)
    {
        if (!Directory.Exists(folder))
            throw new UserException($"the model folder '{folder}' does not exist");
        JsonFields fields = JsonFile.Read(Path.Combine(folder, FileName));
        ModelFamily family = FamilyOf(fields.Text("model_type")) ?? throw fields.Wrong("model_type", $"one of {FamilyNames}");
        RefuseWhatIsNotComputed(fields, family);

        int width = fields.Integer("hidden_size", 1);
        int heads = fields.Integer("num_attention_heads", 1);
        int keyValueHeads = fields.Integer("num_key_value_heads", 1, heads);
        if (heads % keyValueHeads != 0)
            throw fields.Wrong("num_key_value_heads", $"a divisor of num_attention_heads, {heads}");
        bool splitsWidth = !fields.Has("head_dim") && family != ModelFamily.Qwen3;
        if (splitsWidth && width % heads != 0)
            throw fields.Wrong("hidden_size", $"a multiple of num_attention_heads, {heads}, or the field 'head_dim'");
        int headWidth = splitsWidth ? width / heads : fields.Integer("head_dim", 2, Qwen3HeadWidth);
        if (headWidth % 2 != 0)
            throw fields.Wrong(splitsWidth ? "hidden_size" : "head_dim", $"an even width of the heads, got {headWidth}");

        (double rotaryBase, RotaryScaling? scaling) = ReadRotary(fields);
        bool attentionBias = fields.Flag("attention_bias", false);
        return new ModelConfig
        {
            Family = family,
            Vocabulary = fields.Integer("vocab_size", 1),
            Width = width,
            FeedForwardWidth = fields.Integer("intermediate_size", 1),
            Layers = fields.Integer("num_hidden_layers", 1),
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            HeadWidth = headWidth,
            NormEpsilon = fields.Positive("rms_norm_eps", 1e-6),
            RotaryBase = rotaryBase,
            RotaryScaling = scaling,
            MaxPositions = fields.Integer("max_position_embeddings", 1),
            TiedEmbeddings = fields.Flag("tie_word_embeddings", false),
            // Qwen 2 has these biases whatever its configuration says, and never the output's.
            QueryKeyValueBias = family == ModelFamily.Qwen2 || attentionBias,
            OutputBias = family != ModelFamily.Qwen2 && attentionBias,
            FeedForwardBias = family == ModelFamily.Llama && fields.Flag("mlp_bias", false),
            AttentionDropout = fields.Probability("attention_dropout"),
            EndTokens = ReadEndTokens(folder, fields),
        };
    }

    private static void RefuseWhatIsNotComputed(JsonFields fields, ModelFamily family)
    {
        if (fields.Text("hidden_act", "silu") != "silu")
            throw fields.Wrong("hidden_act", "\"silu\"");
        if (fields.Has("quantization_config"))
            throw fields.Wrong("quantization_config", "none: quantised weights are not read");
        if (fields.Positive("partial_rotary_factor", 1) != 1)
            throw fields.Wrong("partial_rotary_factor", "1");
        if (fields.Texts("layer_types").Any(type => type != FullAttention))
            throw fields.Wrong("layer_types", $"\"{FullAttention}\" for every layer");
        bool hasWindow = family != ModelFamily.Llama && fields.Flag("use_sliding_window", false) && fields.Has("sliding_window");
        if (hasWindow && fields.Integer("max_window_layers", 0, DefaultFullLayers) < fields.Integer("num_hidden_layers", 1))
            throw fields.Wrong("use_sliding_window", "false: attention within a sliding window is not computed");
    }

    /// <summary>Newer files have base and scaling in one object, <c>rope_parameters</c>; older ones beside each other.</summary>
    private static (double Base, RotaryScaling? Scaling) ReadRotary(JsonFields fields)
    {
        double outer = fields.Positive("rope_theta", 10000);
        JsonFields? rotary = fields.Object("rope_parameters") ?? fields.Object("rope_scaling");
        if (rotary is null)
            return (outer, null);
        if (rotary.Has(FullAttention))
            rotary = rotary.Object(FullAttention)!;
        if (rotary.Positive("partial_rotary_factor", 1) != 1)
            throw rotary.Wrong("partial_rotary_factor", "1");
        string typeField = rotary.Has("rope_type") ? "rope_type" : "type";
        RotaryScaling? scaling = rotary.Text(typeField, "default") switch
        {
            "default" => null,
            "linear" => new LinearScaling(rotary.Positive("factor")),
            "llama3" => ReadLlama3(rotary),
            _ => throw rotary.Wrong(typeField, "\"default\", \"linear\" or \"llama3\""),
        };
        return (rotary.Positive("rope_theta", outer), scaling);
    }

    private static Llama3Scaling ReadLlama3(JsonFields rotary)
    {
        Llama3Scaling scaling = new(
            rotary.Positive("factor"),
            rotary.Positive("low_freq_factor"),
            rotary.Positive("high_freq_factor"),
            rotary.Integer("original_max_position_embeddings", 1));
        return scaling.HighFrequencyFactor > scaling.LowFrequencyFactor
            ? scaling
            : throw rotary.Wrong("high_freq_factor", $"more than low_freq_factor, {scaling.LowFrequencyFactor}");
    }

    private static List<int> ReadEndTokens(string folder, JsonFields fields)
    {
        IReadOnlyList<int> generation = JsonFile.ReadIfThere(Path.Combine(folder, GenerationFileName))?.Integers(EndTokensField) ?? [];
        return [.. fields.Integers(EndTokensField).Union(generation)];
    }
}
