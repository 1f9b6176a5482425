using System.Globalization;
using System.Text;
using MoEKernels.Benchmarks.Timing;
using MoEKernels.Benchmarks.Workloads;

namespace MoEKernels.Benchmarks.Reports;

/// <summary>A report as people read it.</summary>
internal static class MarkdownReport
{
    public static string Write(Report report)
    {
        var text = new StringBuilder();
        foreach (string line in report.Machine.Lines)
            text.Append("- ").Append(line).Append('\n');
        text.Append(CultureInfo.InvariantCulture, $"- {report.Threads} {(report.Threads == 1 ? "thread" : "threads")} each; other processes: {Load(report)}\n");
        foreach (IGrouping<string, ReportRow> op in report.Rows.GroupBy(row => row.Case.Op))
            AppendTable(text, op.Key, [.. op]);
        return text.ToString();
    }

    public static string NameOf(Pass pass) => pass == Pass.Forward ? "forward" : "forward+backward";

    private static string Load(Report report) => report switch
    {
        { OtherProcessors: { } busy, IsQuiet: true } => string.Create(CultureInfo.InvariantCulture, $"{busy:F2} processors busy"),
        { OtherProcessors: { } busy } => string.Create(CultureInfo.InvariantCulture, $"{busy:F2} processors busy: **the machine was not quiet, do not quote these times**"),
        _ => "unknown",
    };

    private static void AppendTable(StringBuilder text, string op, IReadOnlyList<ReportRow> rows)
    {
        string[] implementations = [.. rows[0].Times.Select(entry => entry.Implementation)];
        text.Append('\n').Append("### ").Append(op).Append("\n\n| shape | types | pass |");
        foreach (string name in implementations)
            text.Append(' ').Append(name).Append(" ms |");
        text.Append(" fused GFLOP/s | torch / fused |\n|---|---|---|");
        for (int i = 0; i < implementations.Length + 2; i++)
            text.Append("--:|");
        text.Append('\n');

        foreach (ReportRow row in rows)
        {
            text.Append(CultureInfo.InvariantCulture, $"| {row.Case.Shape} | {row.Case.Precision} | {NameOf(row.Pass)} |");
            foreach (string name in implementations)
                text.Append(CultureInfo.InvariantCulture, $" {Milliseconds(row.Find(name)!)} |");
            (double median, double min) = row.Speedup(Implementation.Fused);
            text.Append(CultureInfo.InvariantCulture, $" {row.GigaflopPerSecond(row.Find(Implementation.Fused)!):F2} | **{median:F2}** ({min:F2}) |\n");
        }
    }

    private static string Milliseconds(Sample sample) =>
        string.Create(CultureInfo.InvariantCulture, $"{Digits(sample.Median)} ({Digits(sample.Min)})");

    private static string Digits(double value) =>
        value.ToString(value switch { < 0.1 => "F4", < 1 => "F3", < 100 => "F2", _ => "F1" }, CultureInfo.InvariantCulture);
}
