using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Arithmetic on whole LoRA adapters, layer by layer: each has a new adapter as its result and leaves its arguments alone.
/// </summary>
/// <remarks>
/// <para>
/// The update of a layer is Δ = s B A, with the scale s of the adapter's configuration. Results of several adapters have scale 1 (alpha = r; other scales
/// are folded into B) and cover every layer that any of them has; an adapter without a layer adds nothing there. Layers of other ranks than
/// the usual one stand in <see cref="PeftConfig.RankPattern"/> and <see cref="PeftConfig.AlphaPattern"/>. Sums are in f64, results in the
/// type of the first adapter that has the layer.
/// </para>
/// <para>
/// Only what is linear in Δ can be computed with: LoRA and rsLoRA, on linear layers and embeddings. DoRA, SMoRA and CoMoL, biases and modules
/// that are saved as a whole are refused with a <see cref="NotSupportedException"/> that names the field or tensor.
/// </para>
/// </remarks>
public static class PeftMath
{
    /// <summary>Δ = Σ w_i Δ_i exactly, by concatenation: A = [A_1; A_2; …], B = [w_1 s_1 B_1, w_2 s_2 B_2, …]. The rank is the sum of the ranks.</summary>
    /// <remarks>PEFT's <c>cat</c>, and CAT of LoRA Soups (arXiv 2410.13025) with w = softmax of its trained scalars.</remarks>
    /// <param name="adapters">One or more adapters.</param>
    /// <param name="weights">A weight for each; null: all 1, the sum.</param>
    /// <exception cref="ArgumentException">There is no adapter, weights of another number or not finite, or widths of a layer differ.</exception>
    /// <exception cref="NotSupportedException">An adapter is not a plain LoRA.</exception>
    public static PeftAdapter Concatenate(IReadOnlyList<PeftAdapter> adapters, IReadOnlyList<double>? weights = null)
    {
        Check(adapters, ref weights, absent: 1);
        return Combine(adapters, layers => (
            cat(layers.Select(layer => layer.A()).ToArray(), 0),
            cat(layers.Select(layer => layer.ScaledB(weights[layer.Index])).ToArray(), 1)));
    }

    /// <summary>Merges the factors one by one. The rank stays, so all must have the same; the result is not the weighted sum of the updates.</summary>
    /// <remarks>
    /// <para>
    /// With v_i = w_i s_i: <see cref="LinearMerge.SplitRoot"/> is Δ = (Σ √|v_i| B_i)(Σ sign(v_i) √|v_i| A_i), PEFT's <c>linear</c>; with cross terms
    /// Σ_{i≠j} sign(v_j) √(|v_i| |v_j|) B_i A_j beside Σ v_i B_i A_i. <see cref="LinearMerge.WeightsOnB"/> is Δ = (Σ v_i B_i)(Σ A_j), the baseline of LoRA
    /// Soups; with cross terms Σ_{i≠j} v_i B_i A_j. The cross terms mix factors of adapters that were never trained together;
    /// <see cref="Concatenate"/> has none.
    /// </para>
    /// </remarks>
    /// <param name="adapters">One or more adapters of equal ranks.</param>
    /// <param name="weights">A weight for each; null: all 1.</param>
    /// <param name="merge">Where the weights go. Default: PEFT's.</param>
    /// <exception cref="ArgumentException">There is no adapter, weights of another number or not finite, or ranks or widths of a layer differ.</exception>
    /// <exception cref="NotSupportedException">An adapter is not a plain LoRA.</exception>
    public static PeftAdapter Linear(IReadOnlyList<PeftAdapter> adapters, IReadOnlyList<double>? weights = null, LinearMerge merge = LinearMerge.SplitRoot)
    {
        Check(adapters, ref weights, absent: 1);
        if (!Enum.IsDefined(merge))
            throw new ArgumentOutOfRangeException(nameof(merge), merge, $"Expected a value of {nameof(LinearMerge)}.");
        return Combine(adapters, layers =>
        {
            if (layers.FirstOrDefault(layer => layer.Layer.Rank != layers[0].Layer.Rank) is { } other)
                throw new ArgumentException($"The layer '{other.Layer.Path}' has rank {layers[0].Layer.Rank} in one adapter and {other.Layer.Rank} in another; expected equal ones, or use {nameof(Concatenate)}.", nameof(adapters));
            Tensor? a = null, b = null;
            foreach (Operand layer in layers)
            {
                double value = weights[layer.Index] * layer.Layer.Scale;
                double root = Math.Sqrt(Math.Abs(value));
                (double onA, double onB) = merge == LinearMerge.SplitRoot ? (Math.CopySign(root, value), root) : (1, value);
                Tensor ownA = layer.A() * onA, ownB = layer.B() * onB;
                (a, b) = (a is null ? ownA : a + ownA, b is null ? ownB : b + ownB);
            }
            return (a!, b!);
        });
    }

    /// <summary>The adapter of a smaller rank whose update is nearest to this one's in the Frobenius norm: Δ ≈ U S V^T by SVD, B = U S, A = V^T.</summary>
    /// <remarks>
    /// PEFT's <c>svd</c> puts the scale in twice; here it is in once. The SVD is that of an r x r matrix between two QR decompositions, so Δ is never formed.
    /// </remarks>
    /// <param name="adapter">The adapter, for example a sum made by <see cref="Concatenate"/>.</param>
    /// <param name="rank">The new rank, at least 1. A layer that has no more than that keeps its own.</param>
    /// <exception cref="NotSupportedException">The adapter is not a plain LoRA.</exception>
    public static PeftAdapter Compress(PeftAdapter adapter, long rank)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        ArgumentOutOfRangeException.ThrowIfLessThan(rank, 1);
        ThrowIfNotPlain(adapter);
        return Combine([adapter], layers =>
        {
            (Tensor qB, Tensor rB) = linalg.qr(layers[0].ScaledB(1));
            (Tensor qA, Tensor rA) = linalg.qr(layers[0].A().t());
            (Tensor u, Tensor s, Tensor vh) = linalg.svd(rB.matmul(rA.t()), fullMatrices: false);
            long kept = Math.Min(rank, s.size(0));
            return (vh.narrow(0, 0, kept).matmul(qA.t()), qB.matmul(u.narrow(1, 0, kept) * s.narrow(0, 0, kept)));
        });
    }

    /// <summary>Δ = Δ_1 + Δ_2, see <see cref="Concatenate"/>.</summary>
    /// <param name="first">The first adapter.</param>
    /// <param name="second">The second adapter.</param>
    /// <exception cref="ArgumentException">Widths of a layer differ.</exception>
    /// <exception cref="NotSupportedException">An adapter is not a plain LoRA.</exception>
    public static PeftAdapter Add(PeftAdapter first, PeftAdapter second) => Concatenate([first, second]);

    /// <summary>Δ = c Δ_1, by multiplying B (and its bias). The configuration stays.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="factor">c, finite.</param>
    /// <exception cref="NotSupportedException">The adapter is not a plain LoRA.</exception>
    public static PeftAdapter Scale(PeftAdapter adapter, double factor)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        if (!double.IsFinite(factor))
            throw new ArgumentOutOfRangeException(nameof(factor), factor, "Expected a finite number.");
        ThrowIfNotPlain(adapter, allowBias: true);
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        bool IsScaled(string key) => PeftKeys.TrySplit(key, out _, out string part) && part is PeftKeys.B or PeftKeys.EmbeddingB or PeftKeys.BBias;
        return new PeftAdapter(adapter.Config, adapter.Tensors.Select(entry =>
            KeyValuePair.Create(entry.Key, IsScaled(entry.Key) ? (entry.Value.detach() * factor).to(entry.Value.dtype) : entry.Value.detach().clone())).ToArray());
    }

    /// <summary>Δ = -Δ_1, exactly.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <exception cref="NotSupportedException">The adapter is not a plain LoRA.</exception>
    public static PeftAdapter Negate(PeftAdapter adapter) => Scale(adapter, -1);

    /// <summary>Δ = Σ w_i Δ_i exactly and at the same rank, for adapters that share A (one start, A frozen): B = Σ w_i s_i B_i.</summary>
    /// <param name="adapters">One or more adapters.</param>
    /// <param name="weights">A weight for each; null: 1/n, the average.</param>
    /// <exception cref="ArgumentException">There is no adapter, weights of another number or not finite, or A of a layer is not bitwise the same.</exception>
    /// <exception cref="NotSupportedException">An adapter is not a plain LoRA.</exception>
    public static PeftAdapter AverageSharedA(IReadOnlyList<PeftAdapter> adapters, IReadOnlyList<double>? weights = null)
    {
        Check(adapters, ref weights, absent: double.NaN);
        return Combine(adapters, layers =>
        {
            Tensor first = layers[0].A();
            if (layers.FirstOrDefault(layer => !first.shape.AsSpan().SequenceEqual(layer.Layer.A.shape) || !first.eq(layer.A()).all().item<bool>()) is { } other)
                throw new ArgumentException($"The layer '{other.Layer.Path}' has an A of its own in adapter {other.Index}; expected the same A in all of them.", nameof(adapters));
            return (first, layers.Select(layer => layer.ScaledB(weights[layer.Index])).Aggregate((sum, next) => sum + next));
        });
    }

    internal static void Check(IReadOnlyList<PeftAdapter> adapters, [System.Diagnostics.CodeAnalysis.NotNull] ref IReadOnlyList<double>? weights, double absent)
    {
        ArgumentNullException.ThrowIfNull(adapters);
        if (adapters.Count == 0)
            throw new ArgumentException("There is no adapter; expected at least one.", nameof(adapters));
        foreach (PeftAdapter adapter in adapters)
        {
            ArgumentNullException.ThrowIfNull(adapter, nameof(adapters));
            ThrowIfNotPlain(adapter);
        }
        if (weights is not null && weights.Count != adapters.Count)
            throw new ArgumentException($"There are {weights.Count} weights for {adapters.Count} adapters.", nameof(weights));
        if (weights is not null && weights.Any(weight => !double.IsFinite(weight)))
            throw new ArgumentException($"The weights are [{string.Join(", ", weights)}]; expected finite numbers.", nameof(weights));
        weights ??= [.. Enumerable.Repeat(double.IsNaN(absent) ? 1.0 / adapters.Count : absent, adapters.Count)];
    }

    /// <summary>Makes an adapter of scale 1 from A and B of every layer that any of the adapters has.</summary>
    internal static PeftAdapter Combine(IReadOnlyList<PeftAdapter> adapters, Func<IReadOnlyList<Operand>, (Tensor A, Tensor B)> merge)
    {
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        var ranks = new SortedDictionary<string, long>(StringComparer.Ordinal);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (string path in adapters.SelectMany(adapter => adapter.Layers.Keys).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            using var layerScope = NewDisposeScope();
            Operand[] layers = [.. adapters.Select((adapter, index) => (adapter, index)).Where(item => item.adapter.Layers.ContainsKey(path))
                .Select(item => new Operand(item.index, item.adapter.Layers[path]))];
            PeftLayer first = layers[0].Layer;
            foreach (Operand operand in layers)
            {
                PeftLayer other = operand.Layer;
                if (other.IsEmbedding != first.IsEmbedding || other.InFeatures != first.InFeatures || other.OutFeatures != first.OutFeatures)
                    throw new ArgumentException($"The layer '{path}' maps {first.InFeatures} to {first.OutFeatures} features in one adapter and {other.InFeatures} to {other.OutFeatures} in another.", nameof(adapters));
            }
            (Tensor a, Tensor b) = merge(layers);
            ranks.Add(path, a.size(0));
            tensors.Add(PeftKeys.Of(path, first.IsEmbedding ? PeftKeys.EmbeddingA : PeftKeys.A), a.to(first.A.dtype).contiguous().clone().MoveToOuterDisposeScope());
            tensors.Add(PeftKeys.Of(path, first.IsEmbedding ? PeftKeys.EmbeddingB : PeftKeys.B), b.to(first.B.dtype).contiguous().clone().MoveToOuterDisposeScope());
        }
        return new PeftAdapter(ConfigOf(adapters, ranks), tensors);
    }

    private static PeftConfig ConfigOf(IReadOnlyList<PeftAdapter> adapters, SortedDictionary<string, long> ranks)
    {
        PeftConfig first = adapters[0].Config;
        PeftConfig[] configs = [.. adapters.Select(adapter => adapter.Config)];
        bool haveNames = configs.All(config => config.TargetModules?.Names is not null && config.ExcludeModules is null && config.LayersToTransform is null);
        PeftModules targets = PeftModules.FromNames(haveNames
            ? configs.SelectMany(config => config.TargetModules!.Names!).Distinct(StringComparer.Ordinal)
            : ranks.Keys);
        return WithRanks(first with
        {
            UseRsLora = false,
            TargetModules = targets,
            ExcludeModules = null,
            LayersToTransform = null,
            LayersPattern = null,
            // The result is no start of a training, whatever the adapters began as.
            InitLoraWeights = "true",
        }, ranks);
    }

    /// <summary>A configuration with these ranks of layers and scale 1 everywhere.</summary>
    internal static PeftConfig WithRanks(PeftConfig first, SortedDictionary<string, long> ranks)
    {
        long usual = ranks.Count == 0 ? first.Rank : ranks.Values.GroupBy(rank => rank).OrderByDescending(group => group.Count()).ThenBy(group => group.Key).First().Key;
        PeftConfig config = first with
        {
            Rank = usual,
            Alpha = usual,
            RankPattern = PatternOf(ranks.Where(entry => entry.Value != usual)),
            AlphaPattern = PatternOf(ranks.Where(entry => entry.Value != usual)).ToDictionary(entry => entry.Key, entry => (double)entry.Value),
        };
        // A path that another one ends with also matches that one; then every layer gets an entry of its own.
        if (ranks.All(entry => config.RankOf(entry.Key) == entry.Value))
            return config;
        return config with { RankPattern = PatternOf(ranks), AlphaPattern = PatternOf(ranks).ToDictionary(entry => entry.Key, entry => (double)entry.Value) };
    }

    // Longest first: the first entry that matches the end of a path counts.
    private static Dictionary<string, long> PatternOf(IEnumerable<KeyValuePair<string, long>> ranks) =>
        ranks.OrderByDescending(entry => entry.Key.Length).ThenBy(entry => entry.Key, StringComparer.Ordinal)
            .ToDictionary(entry => entry.Key.Replace(".", @"\.", StringComparison.Ordinal), entry => entry.Value, StringComparer.Ordinal);

    private static void ThrowIfNotPlain(PeftAdapter adapter, bool allowBias = false)
    {
        PeftConfig config = adapter.Config;
        if (config.PeftType != PeftConfig.LoraType)
            throw new NotSupportedException($"The field 'peft_type' is '{config.PeftType}'; expected '{PeftConfig.LoraType}', since only updates s B A add up.");
        if (config.UseDora)
            throw new NotSupportedException("The field 'use_dora' is true; DoRA's update depends on the base weight and does not add up.");
        if (config.LoraBias && !allowBias)
            throw new NotSupportedException("The field 'lora_bias' is true; expected an adapter without biases.");
        foreach (string key in adapter.Tensors.Keys)
        {
            if (!PeftKeys.TrySplit(key, out _, out _))
                throw new NotSupportedException($"The tensor '{key}' belongs to the base model and not to a LoRA; expected an adapter without biases and modules to save.");
        }
        if (adapter.Layers.Values.FirstOrDefault(layer => layer.A.dim() != 2) is { } convolution)
            throw new NotSupportedException($"The layer '{convolution.Path}' is a convolution; expected linear layers and embeddings.");
    }

    /// <summary>One adapter's part in a layer of the result.</summary>
    internal sealed record Operand(int Index, PeftLayer Layer)
    {
        public Tensor A() => Layer.A.detach().to(ScalarType.Float64);

        public Tensor B() => Layer.B.detach().to(ScalarType.Float64);

        public Tensor ScaledB(double weight) => B() * (weight * Layer.Scale);
    }
}
