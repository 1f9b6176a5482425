using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace FineTune;

/// <summary>Asks the routers of an adapter what they do with each domain.</summary>
internal static class RoutingTrace
{
    /// <summary>Sends the held-out text of each domain through the model and reads the routers' totals.</summary>
    /// <param name="model">The model with the adapter; left in training mode.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="evaluation">The held-out text.</param>
    /// <returns>One table for each routed layer, in the order of the model; none for an adapter without routers.</returns>
    public static IReadOnlyList<RoutingTable> Of(
        nn.Module<Tensor, Tensor> model, AdapterHandle adapter, Evaluation evaluation)
    {
        var routers = adapter.Layers
            .Where(layer => layer.Value is IRoutedModule)
            .Select(layer => (Path: layer.Key, Router: (IRoutedModule)layer.Value))
            .ToList();
        if (routers.Count == 0)
            return [];

        string[] domains = [.. evaluation.Inputs.Select(set => set.Domain)];
        double[][][] shares = [.. routers.Select(entry => NewTable(entry.Router.RouteCount, domains.Length))];
        model.eval();
        routers.ForEach(entry => entry.Router.TrackRouting = true);
        using (no_grad())
        {
            foreach ((int column, (_, Tensor inputs)) in evaluation.Inputs.Index())
            {
                routers.ForEach(entry => entry.Router.ResetRoutingTotals());
                foreach (Tensor batch in inputs.split(Evaluation.Batch))
                {
                    using var scope = NewDisposeScope();
                    model.call(batch);
                }

                for (int i = 0; i < routers.Count; i++)
                    Fill(shares[i], column, routers[i].Router.GetRoutingTotals());
            }
        }

        routers.ForEach(entry => entry.Router.TrackRouting = false);
        model.train();
        return [.. routers.Select((entry, i) => new RoutingTable(entry.Path, domains, shares[i]))];
    }

    private static double[][] NewTable(long rows, int columns) =>
        [.. Enumerable.Range(0, (int)rows).Select(_ => new double[columns])];

    private static void Fill(double[][] table, int column, double[] totals)
    {
        double sum = totals.Sum();
        for (int row = 0; row < table.Length; row++)
            table[row][column] = sum > 0 ? totals[row] / sum : 0;
    }
}
