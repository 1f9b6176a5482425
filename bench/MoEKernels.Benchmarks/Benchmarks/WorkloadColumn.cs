using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Mathematics;
using BenchmarkDotNet.Parameters;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using MoEKernels.Benchmarks.Timing;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Benchmarks;

/// <summary>A number made of a benchmark's time and of the work that its formula needs.</summary>
internal sealed class WorkloadColumn : IColumn
{
    private readonly Func<WorkloadCase, Pass, Statistics, double> _value;

    private WorkloadColumn(string name, string legend, Func<WorkloadCase, Pass, Statistics, double> value)
    {
        (ColumnName, Legend, _value) = (name, legend, value);
    }

    public string Id => $"{nameof(WorkloadColumn)}.{ColumnName}";

    public string ColumnName { get; }

    public string Legend { get; }

    public bool AlwaysShow => true;

    public ColumnCategory Category => ColumnCategory.Custom;

    public int PriorityInCategory => 0;

    public bool IsNumeric => true;

    public UnitType UnitType => UnitType.Dimensionless;

    /// <summary>All of them.</summary>
    /// <param name="peaks">What the machine can do. Asked for once, when the first table is made.</param>
    public static IColumn[] All(Func<Peaks> peaks)
    {
        var measured = new Lazy<Peaks>(peaks);
        return
        [
            new WorkloadColumn("GFLOP/s", "Billions of floating-point operations that the op's formula needs (not those really executed) per second",
                (work, pass, time) => work.Flops.Of(pass) / time.Mean),
            new WorkloadColumn("GB/s", "Billions of bytes that the op has to move at least, per second",
                (work, pass, time) => work.Bytes.Of(pass) / time.Mean),
            new WorkloadColumn("% of floor", "The time that those operations or those bytes take at the machine's peak, as a share of the shortest measured",
                (work, pass, time) => 100 * measured.Value.FloorMilliseconds(work.Flops, work.Bytes, pass) / (time.Min / 1e6)),
        ];
    }

    public bool IsAvailable(Summary summary) => true;

    public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase)
    {
        if (summary[benchmarkCase]?.ResultStatistics is not { } statistics)
            return "NA";
        var benchmarks = (WorkloadBenchmarks)Activator.CreateInstance(benchmarkCase.Descriptor.Type)!;
        foreach (ParameterInstance parameter in benchmarkCase.Parameters.Items)
            benchmarkCase.Descriptor.Type.GetProperty(parameter.Name)!.SetValue(benchmarks, parameter.Value);
        double value = _value(benchmarks.Case, Enum.Parse<Pass>(benchmarkCase.Descriptor.Categories.Single()), statistics);
        return value.ToString("F2", CultureInfo.InvariantCulture);
    }

    public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) =>
        GetValue(summary, benchmarkCase);
}
