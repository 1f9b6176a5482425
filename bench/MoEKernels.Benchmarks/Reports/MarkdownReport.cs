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
        string threads = report.Threads == 1 ? "1 thread" : $"{report.Threads} threads";
        text.Append("- ").Append(threads).Append(" each; other processes: ").Append(Load(report)).Append('\n');
        foreach (IGrouping<string, ReportRow> op in report.Rows.GroupBy(row => row.Case.Op))
            AppendTable(text, op.Key, [.. op], withCpuTime: report.Threads == 1);
        return text.ToString();
    }

    public static string NameOf(Pass pass) => pass == Pass.Forward ? "forward" : "forward+backward";

    private static string Load(Report report) => report switch
    {
        { OtherProcessors: null } => "unknown",
        { IsQuiet: true } => Busy(report),
        _ => $"{Busy(report)}: **the machine was not quiet, do not quote these times**",
    };

    private static string Busy(Report report) =>
        string.Create(CultureInfo.InvariantCulture, $"{report.OtherProcessors:F2} processors busy");

    // CPU time of several threads would count their spinning as work.
    private static void AppendTable(StringBuilder text, string op, IReadOnlyList<ReportRow> rows, bool withCpuTime)
    {
        string[] implementations = [.. rows[0].Times.Select(entry => entry.Implementation)];
        text.Append('\n').Append("### ").Append(op).Append("\n\n| shape | types | pass |");
        foreach (string name in implementations)
            text.Append(' ').Append(name).Append(" ms |");
        text.Append(" fused GFLOP/s | torch / fused |").Append(withCpuTime ? " of CPU time |" : "");
        text.Append("\n|---|---|---|");
        for (int i = 0; i < implementations.Length + (withCpuTime ? 3 : 2); i++)
            text.Append("--:|");
        text.Append('\n');

        foreach (ReportRow row in rows)
        {
            string[] cells = [row.Case.Shape, row.Case.Precision.ToString(), NameOf(row.Pass),
                .. implementations.Select(name => Milliseconds(row.Find(name)!))];
            text.Append("| ").AppendJoin(" | ", cells).Append(" |");
            double rate = row.GigaflopPerSecond(row.Find(Implementation.Fused)!);
            Speedup speedup = row.SpeedupOf(Implementation.Fused);
            text.Append(CultureInfo.InvariantCulture, $" {rate:F2} | **{speedup.Median:F2}** ({speedup.Min:F2}) |");
            if (withCpuTime)
                text.Append(CultureInfo.InvariantCulture, $" {speedup.Cpu:F2} |");
            text.Append('\n');
        }
    }

    private static string Milliseconds(Sample sample) =>
        string.Create(CultureInfo.InvariantCulture, $"{Digits(sample.Median)} ({Digits(sample.Min)})");

    private static string Digits(double value) =>
        value.ToString(
            value switch
            {
                < 0.1 => "F4",
                < 1 => "F3",
                < 100 => "F2",
                _ => "F1",
            },
            CultureInfo.InvariantCulture);
}
