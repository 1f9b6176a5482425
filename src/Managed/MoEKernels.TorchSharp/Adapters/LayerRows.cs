using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// One layer whose rows use different adapters. Adapters that are one pair of factors are stacked into the ranks of one call of rank-wise LoRA per forward pass, where
/// every token's gates are the scale on its adapter's ranks and 0 on padding; the others compute their own rows one by one.
/// </summary>
/// <param name="layer">The layer.</param>
/// <param name="rows">The adapter of each row; null: none, or one that the layer does not have.</param>
internal sealed class LayerRows(LayerAdapters layer, IReadOnlyList<AdapterLinear?> rows) : IDisposable
{
    // Half of what the op takes at most, so that padding fits beside it.
    private const long MaxStackedRanks = global::MoEKernels.Gate.MaxExperts / 2;

    private readonly Lock _lock = new();
    private Plan? _plan;

    public Tensor Forward(Tensor input)
    {
        if (input.Dimensions < 2 || input.size(0) != rows.Count)
            throw new ArgumentException($"The input has shape [{string.Join(", ", input.shape)}]; expected [{rows.Count}, .., {layer.BaseLayer.in_features}], a row for each of the {rows.Count} adapters given.", nameof(input));
        if (layer.Adapters.Any(adapter => adapter.training))
            throw new InvalidOperationException("The layer is in training mode; rows with adapters of their own are for inference, call eval() first.");
        using var scope = NewDisposeScope();
        Plan plan = PlanFor(input);
        Tensor output = layer.BaseOutput(input);
        bool isFresh = true;
        foreach (Stack stack in plan.Stacks)
        {
            output = stack.AddTo(input, output, isFresh);
            isFresh = false;
        }
        foreach (Part part in plan.Others)
        {
            output = AddPart(part, input, output, isFresh);
            isFresh = false;
        }
        return output.MoveToOuterDisposeScope();
    }

    /// <summary>Lets go of what was made from the adapters' values: they have changed their type or place.</summary>
    public void Forget()
    {
        lock (_lock)
        {
            _plan?.Dispose();
            _plan = null;
        }
    }

    public void Dispose() => Forget();

    private static Tensor AddPart(Part part, Tensor input, Tensor output, bool isFresh)
    {
        if (part.Index is not { } index)
            return Add(input, output, isFresh) ?? output;
        if (Add(input.index_select(0, index), output.index_select(0, index), true) is not { } added)
            return output;
        // In place where nobody differentiates: a copy of the whole output for a few rows is what this is to save.
        return output.requires_grad || added.requires_grad ? output.index_copy(0, index, added) : output.index_copy_(0, index, added);

        Tensor? Add(Tensor x, Tensor y, bool mayOverwrite) => part.IsOn ? part.Adapter.AddTo(x, y, mayOverwrite) : part.Adapter.AddWhenOff(x, y);
    }

    private Plan PlanFor(Tensor input)
    {
        lock (_lock)
        {
            if (_plan is not null && _plan.Fits(layer, input))
                return _plan;
            _plan?.Dispose();
            _plan = null;
            // Ordinary tensors, also when the first call comes in inference mode and a later one does not.
            using var ordinary = inference_mode(false);
            using var noGrad = no_grad();
            return _plan = Plan.Make(layer, rows, input);
        }
    }

    /// <summary>Rows that one adapter computes by itself: those that use it, or those that lack what it took from the base weight.</summary>
    private sealed record Part(AdapterLinear Adapter, bool IsOn, Tensor? Index);

    /// <summary>A pair of factors and the rows that it is added to.</summary>
    private sealed record Block(LoraFactors Factors, IReadOnlyList<int> Rows);

    private sealed class Plan : IDisposable
    {
        private readonly ScalarType _type;
        private readonly Device _device;
        private readonly AdapterImplementation[] _implementations;

        private Plan(Tensor input, AdapterImplementation[] implementations)
        {
            (_type, _device) = (input.dtype, input.device);
            _implementations = implementations;
        }

        public List<Stack> Stacks { get; } = [];

        public List<Part> Others { get; } = [];

        public static Plan Make(LayerAdapters layer, IReadOnlyList<AdapterLinear?> rows, Tensor input)
        {
            var plan = new Plan(input, [.. layer.Adapters.Select(adapter => adapter.Implementation)]);
            var blocks = new List<Block>();
            foreach (AdapterLinear adapter in layer.Adapters)
            {
                int[] on = [.. Enumerable.Range(0, rows.Count).Where(row => ReferenceEquals(rows[row], adapter))];
                int[] off = [.. Enumerable.Range(0, rows.Count).Except(on)];
                plan.Place(adapter, isOn: true, on, adapter.Factors, rows.Count, blocks);
                if (adapter.FactorsWhenOff is { } lacking)
                    plan.Place(adapter, isOn: false, off, lacking, rows.Count, blocks);
            }
            for (int start = 0; start < blocks.Count;)
            {
                int count = 1;
                for (long ranks = blocks[start].Factors.Rank; start + count < blocks.Count && ranks + blocks[start + count].Factors.Rank <= MaxStackedRanks; count++)
                    ranks += blocks[start + count].Factors.Rank;
                plan.Stacks.Add(new Stack(blocks.GetRange(start, count), rows.Count, input));
                start += count;
            }
            return plan;
        }

        public bool Fits(LayerAdapters layer, Tensor input) =>
            input.dtype == _type && input.device_type == _device.type && input.device_index == _device.index
            && layer.Adapters.Select(adapter => adapter.Implementation).SequenceEqual(_implementations);

        public void Dispose()
        {
            foreach (Stack stack in Stacks)
                stack.Dispose();
            foreach (Part part in Others)
                part.Index?.Dispose();
        }

        private void Place(AdapterLinear adapter, bool isOn, int[] own, LoraFactors? factors, int rowCount, List<Block> blocks)
        {
            if (own.Length == 0)
                return;
            if (factors is { } pair && pair.Rank <= MaxStackedRanks && adapter.Implementation == AdapterImplementation.Fused)
                blocks.Add(new Block(pair, own));
            else
                Others.Add(new Part(adapter, isOn, own.Length == rowCount ? null : tensor(own, dtype: ScalarType.Int64, device: _device).DetachFromDisposeScope()));
        }
    }

    /// <summary>Pairs of factors side by side, as the ranks of one.</summary>
    private sealed class Stack : IDisposable
    {
        private readonly Tensor _a;
        private readonly Tensor _b;
        private readonly Tensor _ids;
        private readonly Tensor _gates;

        public Stack(List<Block> blocks, int rowCount, Tensor input)
        {
            using var scope = NewDisposeScope();
            long[] used = new long[rowCount];
            foreach (Block block in blocks)
            {
                foreach (int row in block.Rows)
                    used[row] += block.Factors.Rank;
            }
            // Every row names as many ranks as the row with the most. What it has less are ranks of zeros, not those of another adapter: a NaN in one
            // adapter is nothing to the rows of the others.
            long k = used.Max();
            long padding = k - used.Min();

            LoraFactors first = blocks[0].Factors;
            ScalarType type = blocks.All(block => block.Factors.A.dtype == first.A.dtype) ? first.A.dtype : TensorTypes.Accumulator(input.dtype);
            var a = blocks.Select(block => block.Factors.A.detach().to(type)).ToList();
            var b = blocks.Select(block => block.Factors.B.detach().to(type)).ToList();
            if (padding > 0)
            {
                a.Add(zeros(padding, first.A.size(1), dtype: type, device: input.device));
                b.Add(zeros(first.B.size(0), padding, dtype: type, device: input.device));
            }

            var ids = new int[rowCount * k];
            var gates = new double[rowCount * k];
            var filled = new long[rowCount];
            int rank = 0;
            foreach (Block block in blocks)
            {
                foreach (int row in block.Rows)
                {
                    for (int i = 0; i < block.Factors.Rank; i++)
                    {
                        long at = (row * k) + filled[row]++;
                        (ids[at], gates[at]) = (rank + i, block.Factors.Scale);
                    }
                }
                rank += (int)block.Factors.Rank;
            }
            for (int row = 0; row < rowCount; row++)
            {
                for (int i = rank; filled[row] < k; i++)
                    ids[(row * k) + filled[row]++] = i;
            }

            _a = cat(a, 0).DetachFromDisposeScope();
            _b = cat(b, 1).DetachFromDisposeScope();
            _ids = tensor(ids, [rowCount, k], dtype: ScalarType.Int32, device: input.device).DetachFromDisposeScope();
            _gates = tensor(gates, [rowCount, k], dtype: TensorTypes.Accumulator(input.dtype), device: input.device).DetachFromDisposeScope();
        }

        public Tensor AddTo(Tensor input, Tensor output, bool mayOverwrite)
        {
            long tokens = input.numel() / (_a.size(1) * _ids.size(0));
            Tensor ids = tokens == 1 ? _ids : _ids.repeat_interleave(tokens, 0);
            Tensor gates = tokens == 1 ? _gates : _gates.repeat_interleave(tokens, 0);
            var options = new RankLoraOptions { Gate = RankGate.Caller, Scale = 1 };
            var inputs = new RankLoraInputs(input, _a, _b, null, null, gates, output);
            return MoeFunctional.RunRankLora(inputs, _ids.size(1), options, bias: null, ids, reuseBaseOutput: mayOverwrite).Output;
        }

        public void Dispose()
        {
            _a.Dispose();
            _b.Dispose();
            _ids.Dispose();
            _gates.Dispose();
        }
    }
}
