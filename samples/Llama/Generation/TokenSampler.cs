namespace Llama;

/// <summary>Chooses tokens from logits.</summary>
/// <param name="options">How.</param>
internal sealed class TokenSampler(GenerationOptions options)
{
    private readonly Random _random = new(options.Seed);

    /// <summary>Chooses one token; of several that are equally likely, the one with the lowest number comes first.</summary>
    /// <param name="logits">A score for every token.</param>
    /// <exception cref="UserException">No score is a number.</exception>
    public int Choose(ReadOnlySpan<float> logits)
    {
        int[] order = Candidates(logits);
        if (order.Length == 0)
            throw new UserException("the model's scores are no numbers; f16 overflows on some models: try --dtype f32 or bf16");
        if (options.Temperature == 0)
            return order[0];

        float highest = logits[order[0]];
        double[] weights = new double[order.Length];
        double sum = 0;
        for (int i = 0; i < order.Length; i++)
            sum += weights[i] = Math.Exp((logits[order[i]] - (double)highest) / options.Temperature);

        double draw = _random.NextDouble() * sum;
        for (int i = 0; i < order.Length; i++)
        {
            draw -= weights[i];
            if (draw < 0)
                return order[i];
        }

        return order[0];
    }

    /// <summary>The tokens that can be chosen, the likeliest first.</summary>
    private int[] Candidates(ReadOnlySpan<float> logits)
    {
        float[] scores = logits.ToArray();
        int[] numbers = [.. Enumerable.Range(0, scores.Length).Where(token => float.IsFinite(scores[token]))];
        if (options.Temperature == 0)
            return numbers.Length == 0 ? [] : [numbers.MaxBy(token => scores[token])];
        IEnumerable<int> order = numbers.OrderByDescending(token => scores[token]).ThenBy(token => token);
        return [.. options.TopK > 0 ? order.Take(options.TopK) : order];
    }
}
