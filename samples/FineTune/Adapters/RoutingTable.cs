namespace FineTune;

/// <summary>How the router of one adapted layer treats the domains.</summary>
/// <param name="Module">The path of the layer in the model.</param>
/// <param name="Domains">The columns.</param>
/// <param name="Shares">
/// One row for each rank (SMoRA) or core (CoMoL), one column for each domain; every column sums to 1. SMoRA: the share of the domain's
/// selections that fell on the rank. CoMoL: the mean weight of the core.
/// </param>
internal sealed record RoutingTable(string Module, IReadOnlyList<string> Domains, double[][] Shares)
{
    /// <summary>
    /// How differently the domains are routed: the mean total variation distance between a domain's column and the mean column, from 0
    /// (all alike) towards 1 (nothing shared).
    /// </summary>
    public double Contrast => Enumerable.Range(0, Domains.Count)
        .Average(domain => Shares.Sum(row => Math.Abs(row[domain] - row.Average())) / 2);
}
