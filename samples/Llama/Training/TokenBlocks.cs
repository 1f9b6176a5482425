using static TorchSharp.torch;

namespace Llama;

/// <summary>A text's tokens, cut into blocks of one length of which every tenth is held out.</summary>
internal sealed class TokenBlocks
{
    private const int HeldOutEvery = 10;

    /// <summary>One block to train on and one to measure.</summary>
    private const int FewestBlocks = 2;

    private readonly int[] _tokens;

    private TokenBlocks(int[] tokens, int context, IReadOnlyList<int> training, IReadOnlyList<int> heldOut)
    {
        _tokens = tokens;
        Context = context;
        Training = training;
        HeldOut = heldOut;
    }

    /// <summary>The length of a block.</summary>
    public int Context { get; }

    /// <summary>All tokens.</summary>
    public int Count => _tokens.Length;

    /// <summary>The places where blocks to train on begin.</summary>
    public IReadOnlyList<int> Training { get; }

    /// <summary>The places where blocks begin that are only measured.</summary>
    public IReadOnlyList<int> HeldOut { get; }

    /// <summary>Cuts texts into blocks.</summary>
    /// <param name="texts">The tokens of every text.</param>
    /// <param name="end">A token that ends a text; null: the model has none.</param>
    /// <param name="context">The length of a block.</param>
    /// <exception cref="UserException">There are too few tokens.</exception>
    public static TokenBlocks Cut(IEnumerable<IReadOnlyList<int>> texts, int? end, int context)
    {
        List<int> tokens = [];
        foreach (IReadOnlyList<int> text in texts)
        {
            tokens.AddRange(text);
            if (end is { } token)
                tokens.Add(token);
        }

        // A block's last target is the token after it, the next block's first.
        int blocks = (tokens.Count - 1) / context;
        if (blocks < FewestBlocks)
            throw new UserException($"the text has {tokens.Count} tokens; at least {(FewestBlocks * context) + 1} are needed with --context {context}");
        int firstHeldOut = Math.Min(HeldOutEvery, blocks) - 1;
        int[] starts = [.. Enumerable.Range(0, blocks)];
        return new TokenBlocks(
            [.. tokens],
            context,
            [.. starts.Where(block => !IsHeldOut(block)).Select(block => block * context)],
            [.. starts.Where(IsHeldOut).Select(block => block * context)]);

        bool IsHeldOut(int block) => block % HeldOutEvery == firstHeldOut;
    }

    /// <summary>Puts blocks into a batch.</summary>
    /// <param name="starts">Where they begin.</param>
    /// <returns>Inputs and targets, int64 of shape <c>[blocks, context]</c>; a target is the token after its input.</returns>
    public (Tensor Inputs, Tensor Targets) Batch(IReadOnlyList<int> starts)
    {
        long[] shape = [starts.Count, Context];
        return (Rows(offset: 0), Rows(offset: 1));

        Tensor Rows(int offset) =>
            tensor([.. starts.SelectMany(start => _tokens.Skip(start + offset).Take(Context)).Select(token => (long)token)], shape);
    }
}
