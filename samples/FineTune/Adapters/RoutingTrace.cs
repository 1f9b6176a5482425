using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>Asks the routers of an adapter what they do with each domain.</summary>
internal static class RoutingTrace
{
    /// <summary>Sends the held-out text of each domain through the model and traces the routers.</summary>
    /// <param name="model">The model with the adapter; left in training mode.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="evaluation">The held-out text.</param>
    /// <returns>One table for each routed layer, in the order of the model; none for an adapter without routers.</returns>
    public static IReadOnlyList<RoutingTable> Of(
        nn.Module<Tensor, Tensor> model, AdapterHandle adapter, Evaluation evaluation)
    {
        if (!adapter.Layers.Values.Any(layer => layer is IRoutedModule))
            return [];

        string[] domains = [.. evaluation.Inputs.Select(set => set.Domain)];
        using RouterTrace trace = RouterTrace.Record(model);
        Dictionary<string, double[][]> shares = trace.Layers.ToDictionary(
            layer => layer.Key, layer => NewTable(layer.Value.RouteCount, domains.Length));
        model.eval();
        using (no_grad())
        {
            foreach ((int column, (_, Tensor inputs)) in evaluation.Inputs.Index())
            {
                trace.Clear();
                foreach (Tensor batch in inputs.split(Evaluation.Batch))
                {
                    using var scope = NewDisposeScope();
                    model.call(batch);
                }

                foreach ((string path, RouterTraceLayer layer) in trace.Layers)
                    Fill(shares[path], column, SharesOf(layer));
            }
        }

        model.train();
        return [.. adapter.Layers.Keys.Where(shares.ContainsKey).Select(path => new RoutingTable(path, domains, shares[path]))];
    }

    /// <summary>Where all routes take part in every token, only their weights tell them apart.</summary>
    private static double[] SharesOf(RouterTraceLayer layer) =>
        layer.K == layer.RouteCount ? layer.WeightShares() : layer.ChoiceShares();

    private static double[][] NewTable(int rows, int columns) =>
        [.. Enumerable.Range(0, rows).Select(_ => new double[columns])];

    private static void Fill(double[][] table, int column, double[] shares)
    {
        for (int row = 0; row < table.Length; row++)
            table[row][column] = shares[row];
    }
}
