using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Whether the tensors of an adapter fit each other and the configuration.</summary>
internal static class PeftAdapterChecks
{
    /// <summary>Sorts the tensors into layers.</summary>
    /// <returns>What is wrong; null: nothing.</returns>
    public static string? TryGetLayers(PeftConfig config, Dictionary<string, Tensor> tensors, out Dictionary<string, PeftLayer> layers)
    {
        try
        {
            return SortIntoLayers(config, tensors, out layers);
        }
        catch (InvalidDataException e)
        {
            // A field that only now turns out to be of the wrong kind.
            layers = [];
            return e.Message;
        }
    }

    private static string? SortIntoLayers(PeftConfig config, Dictionary<string, Tensor> tensors, out Dictionary<string, PeftLayer> layers)
    {
        layers = new Dictionary<string, PeftLayer>(StringComparer.Ordinal);
        var parts = new SortedDictionary<string, Dictionary<string, Tensor>>(StringComparer.Ordinal);
        foreach ((string key, Tensor tensor) in tensors)
        {
            if (!PeftKeys.TrySplit(key, out string path, out string part))
                continue;
            if (!TensorTypes.IsSupported(tensor.dtype))
                return $"The tensor '{key}' is {tensor.dtype}; expected a floating-point type.";
            if (!parts.TryGetValue(path, out Dictionary<string, Tensor>? own))
                parts.Add(path, own = new Dictionary<string, Tensor>(StringComparer.Ordinal));
            if (!own.TryAdd(part, tensor))
                return $"There are two tensors for '{path}.{part}'.";
        }
        foreach ((string path, Dictionary<string, Tensor> own) in parts)
        {
            if (TryGetLayer(config, path, own, out PeftLayer? layer) is { } problem)
                return problem;
            layers.Add(path, layer!);
        }
        return null;
    }

    private static string? TryGetLayer(PeftConfig config, string path, Dictionary<string, Tensor> parts, out PeftLayer? layer)
    {
        layer = null;
        bool isEmbedding = parts.ContainsKey(PeftKeys.EmbeddingA) || parts.ContainsKey(PeftKeys.EmbeddingB);
        (string aName, string bName) = isEmbedding ? (PeftKeys.EmbeddingA, PeftKeys.EmbeddingB) : (PeftKeys.A, PeftKeys.B);
        if (!parts.TryGetValue(aName, out Tensor? a))
            return $"The layer '{path}' has no '{aName}'.";
        if (!parts.TryGetValue(bName, out Tensor? b))
            return $"The layer '{path}' has no '{bName}'.";
        if (a.dim() < 2 || b.dim() != a.dim())
            return $"The layer '{path}' has '{aName}' of shape {Shape(a)} and '{bName}' of shape {Shape(b)}; expected two matrices.";
        long rank = config.RankOf(path);
        if (a.size(0) != rank)
            return $"The tensor '{path}.{aName}' has shape {Shape(a)}; expected {rank} rows, the rank that the configuration has for this layer.";
        if (b.size(1) != rank)
            return $"The tensor '{path}.{bName}' has shape {Shape(b)}; expected {rank} columns, the rank that the configuration has for this layer.";

        (long dIn, long dOut) = (a.size(1), b.size(0));
        string? problem = config.PeftType switch
        {
            PeftConfig.SMoRAType => CheckSMoRA(config, path, parts, rank, dIn),
            PeftConfig.CoMoLType => CheckCoMoL(config, path, parts, rank, dIn),
            PeftConfig.LoraType => CheckLora(config, path, parts, dOut, isEmbedding),
            _ => $"The field 'peft_type' is '{config.PeftType}'; expected '{PeftConfig.LoraType}', '{PeftConfig.SMoRAType}' or '{PeftConfig.CoMoLType}'.",
        };
        if (problem is not null)
            return problem;
        layer = new PeftLayer(path, a, b, config.ScaleOf(path), parts.GetValueOrDefault(PeftKeys.BBias), parts.GetValueOrDefault(PeftKeys.Magnitude), isEmbedding);
        return null;
    }

    private static string? CheckLora(PeftConfig config, string path, Dictionary<string, Tensor> parts, long dOut, bool isEmbedding)
    {
        var allowed = new List<string>(isEmbedding ? [PeftKeys.EmbeddingA, PeftKeys.EmbeddingB] : [PeftKeys.A, PeftKeys.B]);
        if (config.UseDora)
        {
            allowed.Add(PeftKeys.Magnitude);
            if (!parts.TryGetValue(PeftKeys.Magnitude, out Tensor? magnitude))
                return $"The layer '{path}' has no '{PeftKeys.Magnitude}', which 'use_dora' needs.";
            if (magnitude.numel() != (isEmbedding ? parts[PeftKeys.EmbeddingB].size(0) : dOut))
                return $"The tensor '{path}.{PeftKeys.Magnitude}' has shape {Shape(magnitude)}; expected [{dOut}].";
        }
        if (config.LoraBias)
        {
            allowed.Add(PeftKeys.BBias);
            if (!isEmbedding && Expect(parts, path, PeftKeys.BBias, dOut) is { } problem)
                return problem;
        }
        return Unknown(parts, path, allowed);
    }

    private static string? CheckSMoRA(PeftConfig config, string path, Dictionary<string, Tensor> parts, long rank, long dIn)
    {
        long partition = PeftConfigJson.Integer(config, PeftConfigJson.RankPartitionField, 1);
        if (partition < 1 || rank % partition != 0)
            return $"The field '{PeftConfigJson.RankPartitionField}' is {partition}; expected a divisor of the rank {rank}.";
        long active = PeftConfigJson.ActiveRanks(config);
        if (active < 1 || active > rank)
            return $"The field '{PeftConfigJson.ActiveRanksField}' is {active}; expected 1 to the rank {rank}.";
        return Expect(parts, path, PeftKeys.Router, rank / partition, dIn)
            ?? Expect(parts, path, PeftKeys.LoadBias, rank)
            ?? Unknown(parts, path, [PeftKeys.A, PeftKeys.B, PeftKeys.Router, PeftKeys.LoadBias]);
    }

    private static string? CheckCoMoL(PeftConfig config, string path, Dictionary<string, Tensor> parts, long rank, long dIn)
    {
        long experts = PeftConfigJson.Integer(config, PeftConfigJson.ExpertsField, 4);
        if (experts is < 1 or > Gate.MaxExperts)
            return $"The field '{PeftConfigJson.ExpertsField}' is {experts}; expected 1 to {Gate.MaxExperts}.";
        bool coreRouter = PeftConfigJson.Flag(config, PeftConfigJson.CoreRouterField, false);
        if (Expect(parts, path, PeftKeys.Router, experts, coreRouter ? rank : dIn) is { } problem)
            return problem;
        var allowed = new List<string> { PeftKeys.A, PeftKeys.B, PeftKeys.Router };
        for (int e = 0; e < experts; e++)
        {
            allowed.Add(PeftKeys.Core(e));
            if (Expect(parts, path, PeftKeys.Core(e), rank, rank) is { } wrong)
                return wrong;
        }
        return Unknown(parts, path, allowed);
    }

    private static string? Expect(Dictionary<string, Tensor> parts, string path, string part, params long[] shape)
    {
        if (!parts.TryGetValue(part, out Tensor? tensor))
            return $"The layer '{path}' has no '{part}'; expected one of shape [{string.Join(", ", shape)}].";
        return tensor.shape.AsSpan().SequenceEqual(shape)
            ? null
            : $"The tensor '{path}.{part}' has shape {Shape(tensor)}; expected [{string.Join(", ", shape)}].";
    }

    private static string? Unknown(Dictionary<string, Tensor> parts, string path, List<string> allowed) =>
        parts.Keys.FirstOrDefault(part => !allowed.Contains(part)) is { } unknown
            ? $"The tensor '{path}.{unknown}' is not one of the configuration's method; expected {string.Join(", ", allowed)}."
            : null;

    private static string Shape(Tensor tensor) => $"[{string.Join(", ", tensor.shape)}]";
}
