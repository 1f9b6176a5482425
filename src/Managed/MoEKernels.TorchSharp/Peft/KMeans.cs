using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>Lloyd's k-means in f64 with a k-means++ start. The same points and seed give the same clusters.</summary>
/// <remarks>Ties go to the lower index. A cluster that loses all members takes the point that is farthest from its centroid.</remarks>
internal sealed class KMeans
{
    private KMeans(int[] assignment, Tensor centroids, IReadOnlyList<double> objectives)
    {
        Assignment = assignment;
        Centroids = centroids;
        Objectives = objectives;
    }

    /// <summary>The cluster of every point.</summary>
    public int[] Assignment { get; }

    /// <summary>[k, width], f64.</summary>
    public Tensor Centroids { get; }

    /// <summary>Sum of squared distances after every assignment; never rises.</summary>
    public IReadOnlyList<double> Objectives { get; }

    /// <param name="points">[n, width], f64, n at least 1.</param>
    /// <param name="k">Number of clusters, at least 1; n or more: every point is its own.</param>
    /// <param name="seed">Seed of the start.</param>
    /// <param name="maxIterations">Most assignments.</param>
    public static KMeans Run(Tensor points, int k, int seed, int maxIterations)
    {
        int n = checked((int)points.size(0));
        if (k >= n)
            return new KMeans([.. Enumerable.Range(0, n)], points.clone(), [0]);

        Tensor centroids = Start(points, n, k, new Random(seed));
        var objectives = new List<double>();
        int[] assignment = [];
        for (int iteration = 0; iteration < maxIterations; iteration++)
        {
            (int[] next, double[] distances) = Assign(points, centroids, n, k);
            objectives.Add(distances.Sum());
            if (next.AsSpan().SequenceEqual(assignment))
                break;
            assignment = next;
            FillEmpty(assignment, distances, k);
            centroids = Means(points, assignment, k);
        }
        return new KMeans(assignment, centroids, objectives);
    }

    private static Tensor Start(Tensor points, int n, int k, Random random)
    {
        var chosen = new List<int> { random.Next(n) };
        double[] nearest = DistancesTo(points, points[chosen[0]]);
        while (chosen.Count < k)
        {
            double total = nearest.Sum();
            int pick;
            if (total > 0)
            {
                double at = random.NextDouble() * total;
                for (pick = 0; pick < n - 1 && (at -= nearest[pick]) >= 0; pick++)
                {
                }
                // Rounding at the end of the sum must not choose a point that is taken.
                if (nearest[pick] == 0)
                    pick = Array.FindLastIndex(nearest, distance => distance > 0);
            }
            else
            {
                // Fewer different points than clusters.
                pick = Enumerable.Range(0, n).First(i => !chosen.Contains(i));
            }
            chosen.Add(pick);
            double[] own = DistancesTo(points, points[pick]);
            for (int i = 0; i < n; i++)
                nearest[i] = Math.Min(nearest[i], own[i]);
        }
        return stack(chosen.Select(i => points[i]).ToArray());
    }

    private static (int[] Assignment, double[] Distances) Assign(Tensor points, Tensor centroids, int n, int k)
    {
        int[] assignment = new int[n];
        double[] distances = DistancesTo(points, centroids[0]);
        for (int cluster = 1; cluster < k; cluster++)
        {
            double[] own = DistancesTo(points, centroids[cluster]);
            for (int i = 0; i < n; i++)
            {
                if (own[i] < distances[i])
                    (assignment[i], distances[i]) = (cluster, own[i]);
            }
        }
        return (assignment, distances);
    }

    private static void FillEmpty(int[] assignment, double[] distances, int k)
    {
        int[] counts = new int[k];
        foreach (int cluster in assignment)
            counts[cluster]++;
        for (int empty = 0; empty < k; empty++)
        {
            if (counts[empty] > 0)
                continue;
            int farthest = Enumerable.Range(0, assignment.Length).Where(i => counts[assignment[i]] > 1).MaxBy(i => distances[i]);
            counts[assignment[farthest]]--;
            (assignment[farthest], distances[farthest], counts[empty]) = (empty, 0, 1);
        }
    }

    private static Tensor Means(Tensor points, int[] assignment, int k)
    {
        var means = new Tensor[k];
        for (int cluster = 0; cluster < k; cluster++)
        {
            long[] members = [.. Enumerable.Range(0, assignment.Length).Where(i => assignment[i] == cluster).Select(i => (long)i)];
            means[cluster] = points.index_select(0, tensor(members)).mean([0L]);
        }
        return stack(means);
    }

    // Differences and not |x|² - 2 x c + |c|²: equal points are at distance 0 then.
    private static double[] DistancesTo(Tensor points, Tensor centroid)
    {
        using var scope = NewDisposeScope();
        return [.. (points - centroid).square().sum(1).data<double>()];
    }
}
