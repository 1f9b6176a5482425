using static TorchSharp.torch;

namespace FineTune;

/// <summary>Draws training batches: a domain for each sequence, then a place in its text.</summary>
internal sealed class BatchSampler
{
    private readonly IReadOnlyList<Domain> _domains;
    private readonly double[] _cumulative;
    private readonly int _batch;
    private readonly int _context;
    private readonly Random _random;

    /// <summary>Makes a sampler; two with the same arguments draw the same batches.</summary>
    /// <param name="domains">The domains to draw from.</param>
    /// <param name="batch">Sequences in a batch.</param>
    /// <param name="context">Bytes in a sequence.</param>
    /// <param name="sizeExponent">
    /// How the chance of a domain depends on its size: 1 draws every byte equally often, 0 every domain equally often.
    /// </param>
    /// <param name="seed">The seed of the draws.</param>
    public BatchSampler(IReadOnlyList<Domain> domains, int batch, int context, double sizeExponent, int seed)
    {
        _domains = domains;
        _batch = batch;
        _context = context;
        _random = new Random(seed);

        double[] weights = [.. domains.Select(domain => Math.Pow(domain.Training.Length, sizeExponent))];
        _cumulative = new double[weights.Length];
        double sum = 0;
        for (int i = 0; i < weights.Length; i++)
            _cumulative[i] = sum += weights[i] / weights.Sum();
    }

    /// <summary>Draws the next batch.</summary>
    /// <returns>Inputs and targets, int64 of shape <c>[batch, context]</c>; a target is the byte after its input.</returns>
    public (Tensor Inputs, Tensor Targets) Next()
    {
        long[] inputs = new long[_batch * _context];
        long[] targets = new long[inputs.Length];
        for (int row = 0; row < _batch; row++)
        {
            byte[] text = DrawDomain().Training;
            int start = _random.Next(text.Length - _context);
            for (int i = 0; i < _context; i++)
            {
                inputs[(row * _context) + i] = text[start + i];
                targets[(row * _context) + i] = text[start + i + 1];
            }
        }

        return (tensor(inputs, [_batch, _context]), tensor(targets, [_batch, _context]));
    }

    private Domain DrawDomain()
    {
        double draw = _random.NextDouble();
        int index = Array.FindIndex(_cumulative, bound => draw < bound);
        return _domains[index >= 0 ? index : _domains.Count - 1];
    }
}
