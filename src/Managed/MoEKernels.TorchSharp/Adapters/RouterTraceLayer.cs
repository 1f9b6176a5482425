using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>What one router has decided, token by token in the order of the forward passes. Safe for several threads that run forward at once.</summary>
public sealed class RouterTraceLayer
{
    private readonly Lock _lock = new();
    private readonly List<int> _ids = [];
    private readonly List<float> _weights = [];

    internal RouterTraceLayer(string path, long routeCount)
    {
        Path = path;
        RouteCount = (int)routeCount;
    }

    /// <summary>The router's path in the model.</summary>
    public string Path { get; }

    /// <summary>Experts, ranks or cores to choose from.</summary>
    public int RouteCount { get; }

    /// <summary>Choices per token: k, or all routes where they mix. 0 before the first token.</summary>
    public int K { get; private set; }

    /// <summary>Tokens so far.</summary>
    public int TokenCount => K == 0 ? 0 : _ids.Count / K;

    /// <summary>The routes that a token took, best first where they were ranked, [k].</summary>
    /// <param name="token">The token, 0 to <see cref="TokenCount"/> - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such token.</exception>
    public ReadOnlySpan<int> IdsOf(int token) => CollectionsMarshal.AsSpan(_ids).Slice(Start(token), K);

    /// <summary>The weights of <see cref="IdsOf"/>, [k].</summary>
    /// <param name="token">The token, 0 to <see cref="TokenCount"/> - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such token.</exception>
    public ReadOnlySpan<float> WeightsOf(int token) => CollectionsMarshal.AsSpan(_weights).Slice(Start(token), K);

    /// <summary>The share of all choices that fell on each route, [routes]; zeros before the first token. One row of a heat map.</summary>
    public double[] ChoiceShares()
    {
        var shares = new double[RouteCount];
        lock (_lock)
        {
            foreach (int id in _ids)
                shares[id] += 1.0 / _ids.Count;
        }
        return shares;
    }

    /// <summary>The share of all weight that each route got, [routes]; zeros before the first token. One row of a heat map.</summary>
    public double[] WeightShares()
    {
        var shares = new double[RouteCount];
        lock (_lock)
        {
            double sum = 0;
            for (int i = 0; i < _ids.Count; i++)
            {
                shares[_ids[i]] += _weights[i];
                sum += _weights[i];
            }
            for (int route = 0; route < shares.Length && sum != 0; route++)
                shares[route] /= sum;
        }
        return shares;
    }

    /// <summary>Adds a forward pass.</summary>
    /// <param name="ids">[.., k] of any integer type; null: every route takes part, in its order.</param>
    /// <param name="weights">[.., k] or [.., routes].</param>
    /// <param name="routeCount">The number of routes.</param>
    internal void Add(Tensor? ids, Tensor weights, long routeCount)
    {
        if (Recompute.IsRecomputing)
            return;
        using var scope = NewDisposeScope();
        int k = (int)(ids is null ? routeCount : ids.size((int)ids.Dimensions - 1));
        float[] weightValues = weights.detach().to(ScalarType.Float32).cpu().contiguous().data<float>().ToArray();
        int[] idValues;
        if (ids is not null)
        {
            idValues = ids.detach().to(ScalarType.Int32).cpu().contiguous().data<int>().ToArray();
        }
        else
        {
            idValues = new int[weightValues.Length];
            for (int i = 0; i < idValues.Length; i++)
                idValues[i] = i % k;
        }
        lock (_lock)
        {
            K = k;
            _ids.AddRange(idValues);
            _weights.AddRange(weightValues);
        }
    }

    internal void Clear()
    {
        lock (_lock)
        {
            _ids.Clear();
            _weights.Clear();
        }
    }

    private int Start(int token)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(token);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(token, TokenCount);
        return token * K;
    }
}
