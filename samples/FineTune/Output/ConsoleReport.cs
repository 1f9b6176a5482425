using Spectre.Console;

namespace FineTune;

/// <summary>Shows a run's text, results and files to people.</summary>
/// <param name="console">Where to write to.</param>
internal sealed class ConsoleReport(IAnsiConsole console)
{
    /// <summary>Shows what text the run works with.</summary>
    public void ShowDomains(IReadOnlyList<Domain> domains)
    {
        Table table = NewTable("domain", "training", "held-out");
        foreach (Domain domain in domains)
        {
            string heldOut = domain.HeldOutFiles.Count > 0 ? Files(domain.HeldOutFiles.Count) : "end of the file";
            table.AddRow(
                Markup.Escape(domain.Name),
                $"{Kibibytes(domain.Training.Length)}, {Files(domain.TrainingFiles.Count)}",
                $"{Kibibytes(domain.HeldOut.Length)}, {heldOut}");
        }

        console.Write(table);
    }

    /// <summary>Shows what will be trained.</summary>
    /// <param name="options">The options of the run.</param>
    /// <param name="parameters">Parameters of the base model.</param>
    /// <param name="adapters">The adapters.</param>
    public void ShowPlan(Options options, long parameters, IReadOnlyList<AdapterPlan> adapters)
    {
        string names = string.Join(", ", adapters.Select(adapter => adapter.Name));
        console.WriteLine(
            $"base: {parameters:N0} parameters (width {options.Width}, {options.Layers} blocks, context {options.Context} bytes), "
            + $"{options.BaseSteps} steps of {options.Batch} sequences");
        console.WriteLine($"adapters on the frozen base, {options.Steps} steps each: {names}");
        console.WriteLine($"{options.Threads} thread(s), seed {options.Seed}; {ExpectedTime(options)}");
        console.WriteLine();
    }

    /// <summary>Shows losses, sizes, times, and where the files are.</summary>
    /// <param name="result">The run.</param>
    /// <param name="files">The files it wrote.</param>
    public void ShowResults(RunResult result, IReadOnlyList<string> files)
    {
        console.WriteLine();
        ShowLosses(result);
        ShowTimes(result);
        foreach (AdapterResult adapter in result.Adapters)
        {
            var worse = result.Domains.Select(domain => domain.Name)
                .Where(domain => adapter.After[domain] >= adapter.Before[domain])
                .ToList();
            if (worse.Count > 0)
                console.WriteLine($"note: {adapter.Plan.Name} did not improve on the frozen base for {string.Join(", ", worse)}");
            if (!adapter.ReloadIsFaithful)
                console.WriteLine($"FAILED: {adapter.Plan.Name}, reloaded from {adapter.File}, gave other outputs than before");
        }

        string[] rounded = [.. result.Adapters
            .Where(adapter => adapter.ReloadIsFaithful && !adapter.Reload.IsIdentical)
            .Select(adapter => $"{adapter.Plan.Name}: to {adapter.Reload.LargestDifference:0.0e+0} of the largest, since it puts back what it took from the base weight")];
        if (result.Adapters.All(adapter => adapter.ReloadIsFaithful))
            console.WriteLine($"every {(rounded.Length > 0 ? "other " : "")}adapter was reloaded from its file and gave bit-identical outputs");
        foreach (string line in rounded)
            console.WriteLine(line);
        string memory = result.PeakMemoryBytes > 0 ? $", peak memory {result.PeakMemoryBytes / 1048576.0:N0} MiB" : "";
        console.WriteLine($"took {StageClock.Format(result.Elapsed)}{memory}");
        console.WriteLine();
        foreach (string file in files)
            console.WriteLine($"  {file}");
    }

    private void ShowLosses(RunResult result)
    {
        Table table = NewTable(["held-out bits per byte", "trainable", .. result.Domains.Select(domain => domain.Name)]);
        table.AddRow(["frozen base", "0", .. result.Domains.Select(domain => $"{result.Base[domain.Name]:0.000}")]);
        foreach (AdapterResult adapter in result.Adapters)
        {
            table.AddRow(
            [
                Markup.Escape(adapter.Plan.Name),
                $"{adapter.Parameters:N0}",
                .. result.Domains.Select(domain => domain.Name).Select(domain =>
                    $"{adapter.After[domain]:0.000} ({adapter.After[domain] - adapter.Before[domain]:+0.000;-0.000})"),
            ]);
        }

        console.Write(table);
    }

    private void ShowTimes(RunResult result)
    {
        Table table = NewTable(
            "ms, min / median", "frozen layers", "+ adapter", "+ twin", "model", "twin model", "adapter : twin");
        foreach (AdapterResult adapter in result.Adapters)
        {
            AdapterTiming timing = adapter.Timing;
            table.AddRow(
                Markup.Escape(adapter.Plan.Name),
                Pair(timing.LayersWithoutAdapter),
                Pair(timing.LayersWithKernels),
                Pair(timing.LayersWithTwin),
                Pair(timing.ModelWithKernels),
                Pair(timing.ModelWithTwin),
                Gain(timing));
        }

        console.Write(table);
        console.WriteLine("forward and backward of one step, taking turns; the twin is the same formula in plain TorchSharp");
        console.WriteLine();
    }

    private static string Gain(AdapterTiming timing)
    {
        string times = $"{timing.AddedByKernels:0.0} : {timing.AddedByTwin:0.0}";
        return timing.AddedByKernels > 0 ? $"{times} = {timing.AddedByTwin / timing.AddedByKernels:0.0}×" : times;
    }

    private static string Pair(Durations times) => $"{times.MinMilliseconds:0.0} / {times.MedianMilliseconds:0.0}";

    private static string ExpectedTime(Options options) => options.Quick
        ? "with --quick this takes under a minute on two cores"
        : "with the default sizes this takes about four minutes on two cores";

    private static Table NewTable(params string[] columns)
    {
        Table table = new() { Border = TableBorder.Simple };
        foreach ((int index, string column) in columns.Index())
        {
            TableColumn header = new(Markup.Escape(column)) { NoWrap = true };
            table.AddColumn(index == 0 ? header : header.RightAligned());
        }

        return table;
    }

    private static string Kibibytes(int bytes) => $"{bytes / 1024.0:N1} KiB";

    private static string Files(int count) => count == 1 ? "1 file" : $"{count} files";
}
