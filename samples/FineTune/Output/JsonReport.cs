using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace FineTune;

/// <summary>Writes all numbers of a run for programs to read.</summary>
internal static class JsonReport
{
    private static readonly JsonSerializerOptions Format = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,

        // Nobody puts the file into a web page, and C++ reads better than C\u002B\u002B.
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
    };

    /// <summary>Writes the file.</summary>
    /// <param name="path">Where to.</param>
    /// <param name="result">The run.</param>
    public static void Write(string path, RunResult result)
    {
        var report = new
        {
            Unit = "bits per byte; times in milliseconds",
            result.Options,
            Machine = Machine.Describe(),
            ElapsedSeconds = Math.Round(result.Elapsed.TotalSeconds, 1),
            PeakMemoryMebibytes = Mebibytes(result.PeakMemoryBytes),
            Domains = result.Domains.Select(domain => new
            {
                domain.Name,
                TrainingBytes = domain.Training.Length,
                HeldOutBytes = domain.HeldOut.Length,
                TrainingFiles = domain.TrainingFiles.Count,
                domain.HeldOutFiles,
            }),
            Base = new
            {
                Parameters = result.BaseParameters,
                HeldOut = result.Base,
                result.Pretraining,
            },
            Adapters = result.Adapters.Select(adapter => new
            {
                adapter.Plan.Kind,
                adapter.Plan.Name,
                Configuration = (object)adapter.Plan.Config,
                adapter.Parameters,
                adapter.Layers,
                HeldOutBefore = adapter.Before,
                HeldOutAfter = adapter.After,
                adapter.Timing,
                File = Path.GetFileName(adapter.File),
                ReloadIsIdentical = adapter.Reload.IsIdentical,
                ReloadDifference = adapter.Reload.LargestDifference,
                adapter.History,
                adapter.Routing,
            }),
        };
        using FileStream stream = File.Create(path);
        JsonSerializer.Serialize(stream, report, Format);
    }

    private static double Mebibytes(long bytes) => Math.Round(bytes / 1048576.0);
}
