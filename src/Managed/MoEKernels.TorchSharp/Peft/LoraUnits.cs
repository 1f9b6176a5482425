using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// A LoRA as the set of its rank-one units (LoRA-LEGO, arXiv 2409.16167): unit j is row j of A beside column j of B. Their order does not
/// matter, and putting the units of several LoRAs together adds the updates up.
/// </summary>
public static class LoraUnits
{
    /// <summary>The units of a layer, with the layer's scale folded into the part of B.</summary>
    /// <param name="layer">The layer of an adapter.</param>
    /// <returns>[r, d_in + d_out], f64: row j is [A[j], s B[:, j]]. A new tensor in the current DisposeScope.</returns>
    /// <exception cref="NotSupportedException">The layer is a convolution.</exception>
    public static Tensor Split(PeftLayer layer)
    {
        ArgumentNullException.ThrowIfNull(layer);
        if (layer.A.dim() != 2)
            throw new NotSupportedException($"The layer '{layer.Path}' is a convolution; expected a linear layer or an embedding.");
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return cat([layer.A.to(ScalarType.Float64), (layer.B.to(ScalarType.Float64) * layer.Scale).t()], 1).MoveToOuterDisposeScope();
    }

    /// <summary>The factors that units make, with scale 1.</summary>
    /// <param name="units">Units, [r, d_in + d_out].</param>
    /// <param name="inFeatures">d_in, 1 to d_in + d_out - 1.</param>
    /// <returns>A [r, d_in] and B [d_out, r], new tensors in the current DisposeScope.</returns>
    /// <exception cref="ArgumentException">The units are not a matrix, or are no wider than d_in.</exception>
    public static (Tensor A, Tensor B) Join(Tensor units, long inFeatures)
    {
        ArgumentNullException.ThrowIfNull(units);
        if (units.dim() != 2)
            throw new ArgumentException($"The units have shape [{string.Join(", ", units.shape)}]; expected [r, d_in + d_out].", nameof(units));
        if (inFeatures < 1 || inFeatures >= units.size(1))
            throw new ArgumentOutOfRangeException(nameof(inFeatures), inFeatures, $"Expected 1 to {units.size(1) - 1}, less than the units' width.");
        using var scope = NewDisposeScope();
        Tensor a = units.narrow(1, 0, inFeatures).clone();
        Tensor b = units.narrow(1, inFeatures, units.size(1) - inFeatures).t().contiguous().clone();
        return (a.MoveToOuterDisposeScope(), b.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// Merges adapters as LoRA-LEGO does: pools the units of a layer, clusters them into k by k-means (L2, k-means++ start), and takes the centroids as the
    /// units of the result.
    /// </summary>
    /// <remarks>
    /// A centroid is a mean, so n copies of one adapter clustered into its rank give that adapter and not n times it; with k at least the number of units every
    /// unit is its own cluster and the result is the sum. Layer by layer, the result depends on the seed alone.
    /// </remarks>
    /// <param name="adapters">One or more adapters; ranks may differ.</param>
    /// <param name="rank">k, at least 1. A layer with fewer units keeps them all.</param>
    /// <param name="options">Seed and reweighting; null: the defaults.</param>
    /// <exception cref="ArgumentException">There is no adapter, or widths of a layer differ.</exception>
    /// <exception cref="NotSupportedException">An adapter is not a plain LoRA.</exception>
    public static PeftAdapter Merge(IReadOnlyList<PeftAdapter> adapters, int rank, LegoOptions? options = null)
    {
        IReadOnlyList<double>? weights = null;
        PeftMath.Check(adapters, ref weights, absent: 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(rank, 1);
        options ??= new LegoOptions();
        options.Validate();
        return PeftMath.Combine(adapters, layers =>
        {
            Tensor units = cat(layers.Select(layer => Split(layer.Layer)).ToArray(), 0);
            KMeans clusters = KMeans.Run(units, rank, options.Seed, options.MaxIterations);
            Tensor merged = clusters.Centroids;
            if (options.ParameterReweighting == LegoParameterReweighting.MeanNorm)
                merged = merged * NormFactors(units, clusters);
            (Tensor a, Tensor b) = Join(merged, layers[0].Layer.InFeatures);
            if (options.OutputReweighting == LegoOutputReweighting.RootOfRankRatio)
                b = b * Math.Sqrt(layers.Average(layer => (double)layer.Layer.Rank) / merged.size(0));
            return (a, b);
        });
    }

    // Mean norm of the members over the norm of their mean; 1 where the mean is 0, which no factor can cure.
    private static Tensor NormFactors(Tensor units, KMeans clusters)
    {
        double[] norms = [.. units.norm(1).data<double>()];
        double[] centroidNorms = [.. clusters.Centroids.norm(1).data<double>()];
        double[] factors = [.. centroidNorms.Select((norm, cluster) =>
        {
            double mean = norms.Where((_, unit) => clusters.Assignment[unit] == cluster).Average();
            return norm > 0 ? mean / norm : 1;
        })];
        return tensor(factors, dtype: ScalarType.Float64).unsqueeze(1);
    }
}
