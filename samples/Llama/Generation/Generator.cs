using static TorchSharp.torch;

namespace Llama;

/// <summary>Continues texts, one token after the other.</summary>
internal static class Generator
{
    /// <summary>Continues a text until its end or the most tokens.</summary>
    /// <param name="model">The model; it is in evaluation mode afterwards.</param>
    /// <param name="prompt">The text's tokens, at least one.</param>
    /// <param name="options">How tokens are chosen.</param>
    /// <param name="stage">Told about every token; null: nobody is.</param>
    /// <param name="cancellation">Stops between two tokens.</param>
    /// <returns>The new tokens, without one that ends the text.</returns>
    /// <exception cref="UserException">The prompt is empty, or it and the new tokens are more than the model has positions for.</exception>
    public static IReadOnlyList<int> Continue(
        CausalModel model,
        IReadOnlyList<int> prompt,
        GenerationOptions options,
        IProgress<StepReport>? stage = null,
        CancellationToken cancellation = default)
    {
        if (prompt.Count == 0)
            throw new UserException("the prompt is empty; the model needs at least one token to start from");
        int positions = prompt.Count + options.MaxNewTokens;
        if (positions > model.Config.MaxPositions)
            throw new UserException($"the prompt's {prompt.Count} tokens and {options.MaxNewTokens} new ones are {positions}; the model's max_position_embeddings is {model.Config.MaxPositions}");

        model.eval();
        using var noGradients = no_grad();
        using KeyValueCache cache = model.NewCache(batch: 1, positions);
        TokenSampler sampler = new(options);
        List<int> added = [];
        IReadOnlyList<int> next = prompt;
        while (added.Count < options.MaxNewTokens)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            Tensor tokens = tensor([.. next.Select(token => (long)token)], [1, next.Count]);
            Tensor scores = model.ScoreNext(tokens, cache).to(float32);
            int token = sampler.Choose(scores.data<float>().ToArray());
            if (model.Config.EndTokens.Contains(token))
                break;
            added.Add(token);
            next = [token];
            stage?.Report(new StepReport(added.Count));
        }

        return added;
    }
}
