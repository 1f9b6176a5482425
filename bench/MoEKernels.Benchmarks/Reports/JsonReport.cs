using System.Text.Encodings.Web;
using System.Text.Json;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>A report as programs read it. Times are milliseconds per call.</summary>
internal static class JsonReport
{
    private static readonly JsonSerializerOptions Options = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        // A plus sign stays one: this is a file, not a page.
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static string Write(Report report) => JsonSerializer.Serialize(new
    {
        report.Machine.Date,
        report.Machine.Commit,
        Machine = report.Machine.Lines,
        Sections = report.Sections.Select(section => new
        {
            section.Threads,
            section.Peaks,
            section.OtherProcessors,
            Quiet = section.IsQuiet,
            Results = section.Rows.Select(row => new
            {
                row.Case.Op,
                row.Case.Shape,
                Precision = row.Case.Precision.ToString(),
                Pass = MarkdownReport.NameOf(row.Pass),
                row.Gigaflop,
                Gigabytes = row.Case.Bytes.Of(row.Pass) / 1e9,
                Baseline = row.Times[0].Implementation,
                Times = row.Times.ToDictionary(entry => entry.Implementation, entry => entry.Sample),
                FusedSpeedup = row.SpeedupOf(Implementation.Fused),
                FusedShareOfFloor = row.ShareOfFloor(row.Find(Implementation.Fused)!, section.Peaks),
            }),
        }),
    }, Options) + "\n";
}
