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
        foreach (ReportSection section in report.Sections)
        {
            string threads = section.Threads == 1 ? "1 thread" : $"{section.Threads} threads";
            text.Append(CultureInfo.InvariantCulture,
                $"- {threads} each: matrix products {section.Peaks.Gigaflops:F0} GFLOP/s, copies {section.Peaks.Gigabytes:F1} GB/s; other processes: {Load(section)}\n");
        }
        foreach (ReportSection section in report.Sections)
        {
            string threads = section.Threads == 1 ? "1 thread" : $"{section.Threads} threads";
            foreach (IGrouping<string, ReportRow> op in section.Rows.GroupBy(row => row.Case.Op))
                AppendTable(text, $"{op.Key}, {threads}", [.. op], section);
        }
        return text.ToString();
    }

    public static string NameOf(Pass pass) => pass == Pass.Forward ? "forward" : "forward+backward";

    private static string Load(ReportSection section) => section switch
    {
        { OtherProcessors: null } => "unknown",
        { IsQuiet: true } => Busy(section),
        _ => $"{Busy(section)}: **the machine was not quiet, do not quote these times**",
    };

    private static string Busy(ReportSection section) =>
        string.Create(CultureInfo.InvariantCulture, $"{section.OtherProcessors:F2} processors busy");

    // CPU time of several threads would count their spinning as work.
    private static void AppendTable(StringBuilder text, string heading, IReadOnlyList<ReportRow> rows, ReportSection section)
    {
        bool withCpuTime = section.Threads == 1;
        string[] implementations = [.. rows[0].Times.Select(entry => entry.Implementation)];
        text.Append('\n').Append("### ").Append(heading).Append("\n\n| shape | types | pass |");
        foreach (string name in implementations)
            text.Append(' ').Append(name).Append(" ms |");
        text.Append(" fused GFLOP/s | GB/s | % of floor | torch / fused |").Append(withCpuTime ? " of CPU time |" : "");
        text.Append("\n|---|---|---|");
        for (int i = 0; i < implementations.Length + (withCpuTime ? 5 : 4); i++)
            text.Append("--:|");
        text.Append('\n');

        foreach (ReportRow row in rows)
        {
            string[] cells = [row.Case.Shape, row.Case.Precision.ToString(), NameOf(row.Pass),
                .. implementations.Select(name => Milliseconds(row.Find(name)!))];
            text.Append("| ").AppendJoin(" | ", cells).Append(" |");
            Sample fused = row.Find(Implementation.Fused)!;
            string share = string.Create(CultureInfo.InvariantCulture, $"{100 * row.ShareOfFloor(fused, section.Peaks):F0}");
            if (row.ShareOfDenseFloor(fused, section.Peaks) is { } dense)
                share += string.Create(CultureInfo.InvariantCulture, $" ({100 * dense:F0})");
            Speedup speedup = row.SpeedupOf(Implementation.Fused);
            text.Append(CultureInfo.InvariantCulture, $" {row.GigaflopPerSecond(fused):F2} | {row.GigabytesPerSecond(fused):F2} | {share} | **{speedup.Median:F2}** ({speedup.Min:F2}) |");
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
