using static TorchSharp.torch;

namespace FineTune;

/// <summary>Measures a model on held-out text.</summary>
internal sealed class Evaluation
{
    /// <summary>Sequences that go through the model at once.</summary>
    public const int Batch = 16;

    /// <summary>The most sequences measured in a domain; they lie evenly over the text.</summary>
    private const int MostSequences = 64;

    private readonly List<(string Domain, Tensor Inputs, Tensor Targets)> _sets;

    /// <summary>Cuts the held-out text of every domain into sequences that do not overlap.</summary>
    /// <param name="domains">The domains.</param>
    /// <param name="context">Bytes in a sequence.</param>
    public Evaluation(IReadOnlyList<Domain> domains, int context)
    {
        _sets = [.. domains.Select(domain => Cut(domain, context))];
    }

    /// <summary>The sequences measured in each domain, int64 of shape <c>[sequences, context]</c>.</summary>
    public IEnumerable<(string Domain, Tensor Inputs)> Inputs => _sets.Select(set => (set.Domain, set.Inputs));

    /// <summary>The mean cross entropy of a model on each domain.</summary>
    /// <param name="model">A model that turns bytes into logits; left in training mode.</param>
    /// <param name="cancellation">Stops between two batches.</param>
    /// <returns>Bits per byte by domain.</returns>
    public IReadOnlyDictionary<string, double> BitsPerByte(nn.Module<Tensor, Tensor> model, CancellationToken cancellation)
    {
        model.eval();
        using var noGradients = no_grad();
        Dictionary<string, double> result = [];
        foreach ((string domain, Tensor inputs, Tensor targets) in _sets)
        {
            double nats = 0;
            for (long start = 0; start < inputs.size(0); start += Batch)
            {
                cancellation.ThrowIfCancellationRequested();
                using var scope = NewDisposeScope();
                long count = Math.Min(Batch, inputs.size(0) - start);
                Tensor logits = model.call(inputs.narrow(0, start, count));
                nats += Loss.Nats(logits, targets.narrow(0, start, count), nn.Reduction.Sum).item<float>();
            }

            result[domain] = nats / Loss.NatsPerBit / targets.numel();
        }

        model.train();
        return result;
    }

    private static (string Domain, Tensor Inputs, Tensor Targets) Cut(Domain domain, int context)
    {
        byte[] text = domain.HeldOut;
        int available = (text.Length - 1) / context;
        int count = Math.Min(available, MostSequences);
        long[] inputs = new long[count * context];
        long[] targets = new long[inputs.Length];
        for (int row = 0; row < count; row++)
        {
            int start = (int)((long)row * available / count) * context;
            for (int i = 0; i < context; i++)
            {
                inputs[(row * context) + i] = text[start + i];
                targets[(row * context) + i] = text[start + i + 1];
            }
        }

        return (domain.Name, tensor(inputs, [count, context]), tensor(targets, [count, context]));
    }
}
