using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Parameters;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>Rate of the work that the formula needs, see <see cref="FlopCount"/>.</summary>
internal sealed class GigaflopsColumn : IColumn
{
    public string Id => nameof(GigaflopsColumn);

    public string ColumnName => "GFLOP/s";

    public string Legend =>
        "Billions of floating-point operations that the op's formula needs (not those really executed) per second";

    public bool AlwaysShow => true;

    public ColumnCategory Category => ColumnCategory.Custom;

    public int PriorityInCategory => 0;

    public bool IsNumeric => true;

    public UnitType UnitType => UnitType.Dimensionless;

    public bool IsAvailable(Summary summary) => true;

    public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase) =>
        summary[benchmarkCase]?.ResultStatistics is { } statistics
            ? (Flops(benchmarkCase) / statistics.Mean).ToString("F2", CultureInfo.InvariantCulture)
            : "NA";

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) =>
        GetValue(summary, benchmarkCase);

    private static double Flops(BenchmarkCase benchmarkCase)
    {
        var benchmarks = (WorkloadBenchmarks)Activator.CreateInstance(benchmarkCase.Descriptor.Type)!;
        foreach (ParameterInstance parameter in benchmarkCase.Parameters.Items)
            benchmarkCase.Descriptor.Type.GetProperty(parameter.Name)!.SetValue(benchmarks, parameter.Value);
        return benchmarks.Case.Flops.Of(Enum.Parse<Pass>(benchmarkCase.Descriptor.Categories.Single()));
    }
}
