using System.Globalization;
using MoEKernels.Benchmarks.Workloads;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks.Modes;

/// <summary>Verifies what the benchmarks time: a fast wrong result is worth nothing.</summary>
internal static class CheckMode
{
    /// <returns>The exit code.</returns>
    public static int Run()
    {
        int passed = 0, failed = 0;
        foreach (WorkloadCase workloadCase in CaseLists.Check)
        {
            foreach ((string implementation, string? failure, string details) in Verify(workloadCase))
            {
                string line = $"{workloadCase.Op,-10} {workloadCase.Shape} {workloadCase.Precision}, {implementation}";
                Console.WriteLine(failure is null ? $"ok    {line}: {details}" : $"FAIL  {line}: {failure}");
                if (failure is null)
                    passed++;
                else
                    failed++;
            }
        }
        Console.WriteLine($"{passed} passed, {failed} failed");
        return failed == 0 && passed > 0 ? 0 : 1;
    }

    private static IEnumerable<(string Implementation, string? Failure, string Details)> Verify(
        WorkloadCase workloadCase)
    {
        using var scope = NewDisposeScope();
        Workload? workload = null;
        IReadOnlyList<(string, Tensor)>? expected = null;
        string? failure = null;
        try
        {
            workload = workloadCase.Build();
            expected = workload.EvaluateOracle();
        }
        catch (Exception e)
        {
            failure = OneLine(e);
        }
        if (failure is not null)
        {
            workload?.Dispose();
            yield return ("set-up", failure, "");
            yield break;
        }

        using (workload!)
        {
            foreach (Implementation implementation in workload!.Implementations)
            {
                if (IsComparable(implementation, workloadCase.Precision))
                    yield return Compare(implementation, expected!, Tolerance(workloadCase.Precision));
            }
        }
    }

    /// <summary>
    /// Plain TorchSharp operations round every intermediate to bf16, router logits included, and may choose other ranks
    /// than the exact formula. That is their rounding and no mistake, so they are verified in the other types.
    /// </summary>
    private static bool IsComparable(Implementation implementation, Precision precision) =>
        precision is Precision.F32 or Precision.F64
        || !implementation.Name.StartsWith(Implementation.Torch, StringComparison.Ordinal);

    /// <summary>
    /// Of the Euclidean norm of the difference to that of the expected tensor. bf16: the operands are exact, and a
    /// result is rounded by 2^-8 of itself at most, mostly by less; a layer's twice.
    /// </summary>
    private static double Tolerance(Precision precision) => precision switch
    {
        Precision.F64 => 1e-12,
        Precision.F32 => 5e-6,
        _ => 1.0 / 256,
    };

    private static (string Implementation, string? Failure, string Details) Compare(
        Implementation implementation, IReadOnlyList<(string Name, Tensor Value)> expected, double tolerance)
    {
        try
        {
            using var scope = NewDisposeScope();
            Dictionary<string, Tensor> actual =
                implementation.Evaluate().ToDictionary(entry => entry.Name, entry => entry.Value);
            double worst = 0;
            string worstName = "";
            foreach ((string name, Tensor value) in expected)
            {
                if (!actual.TryGetValue(name, out Tensor? other))
                    return (implementation.Name, $"{name} is missing", "");
                double error = RelativeError(other, value);
                // Not a number must fail too, hence the negation.
                if (!(error <= tolerance))
                {
                    string failure = Invariant($"{name} is off by {error:E1} of its norm, allowed are {tolerance:E1}");
                    return (implementation.Name, failure, "");
                }
                if (error >= worst)
                    (worst, worstName) = (error, name);
            }
            string details = Invariant($"{expected.Count} tensors, largest relative error {worst:E1} ({worstName})");
            return (implementation.Name, null, details);
        }
        catch (Exception e)
        {
            return (implementation.Name, OneLine(e), "");
        }
    }

    private static double RelativeError(Tensor actual, Tensor expected)
    {
        using var scope = NewDisposeScope();
        double norm = expected.norm().item<double>();
        double difference = (actual.to(ScalarType.Float64) - expected).norm().item<double>();
        return norm == 0 ? difference : difference / norm;
    }

    private static string OneLine(Exception e) => $"{e.GetType().Name}: {e.Message.ReplaceLineEndings(" ")}";

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
