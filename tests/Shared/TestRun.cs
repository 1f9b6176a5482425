using System.Reflection;
using NUnit.Framework.Api;
using NUnit.Framework.Interfaces;
using NUnit.Framework.Internal;

namespace MoEKernels.TestPrograms;

/// <summary>
/// Runs the tests of this assembly inside its own process: on a machine without a .NET SDK a self-contained publish is all
/// there is. See tests/README.md.
/// </summary>
internal static class TestRun
{
    /// <summary>Runs the tests of a category, or all of them, and prints what came of them.</summary>
    /// <param name="category">The category; null: every test.</param>
    /// <returns>0 when nothing failed and something passed, else 1: tests that were all skipped have shown nothing.</returns>
    internal static int Run(string? category)
    {
        NUnitTestAssemblyRunner runner = new(new DefaultTestAssemblyBuilder());
        ITest tests = runner.Load(Assembly.GetExecutingAssembly(), new Dictionary<string, object>());
        if (tests.RunState != RunState.Runnable)
        {
            Console.Error.WriteLine($"The tests cannot be loaded: {tests.Properties.Get(PropertyNames.SkipReason)}");
            return 1;
        }
        TestFilter filter = category is null
            ? TestFilter.Empty : TestFilter.FromXml($"<filter><cat>{category}</cat></filter>");
        Reporter reporter = new();
        ITestResult result = runner.Run(reporter, filter);
        Console.WriteLine(
            $"{(result.FailCount == 0 ? "Passed" : "Failed")}!  - Failed: {result.FailCount}, Passed: {result.PassCount}, "
            + $"Skipped: {result.SkipCount}, Total: {result.TotalCount}, Duration: {result.Duration:F0} s");
        return result.FailCount == 0 && result.PassCount > 0 ? 0 : 1;
    }

    private sealed class Reporter : ITestListener
    {
        private readonly HashSet<string> _reasons = [];

        public void TestStarted(ITest test)
        {
        }

        public void TestFinished(ITestResult result)
        {
            if (result.Test.IsSuite)
            {
                // What a fixture's set-up throws is reported by the fixture alone.
                if (result.ResultState is { Status: TestStatus.Failed, Site: FailureSite.SetUp })
                    Report(result);
                return;
            }
            Report(result);
        }

        public void TestOutput(TestOutput output) => Console.Write(output.Text);

        public void SendMessage(TestMessage message)
        {
        }

        private void Report(ITestResult result)
        {
            switch (result.ResultState.Status)
            {
                case TestStatus.Failed:
                    Console.WriteLine($"Failed  {result.FullName}");
                    Console.WriteLine(result.Message);
                    Console.WriteLine(result.StackTrace);
                    break;
                // The same reason goes for many tests.
                case TestStatus.Skipped when _reasons.Add(result.Message):
                    Console.WriteLine($"Skipped {result.FullName}: {result.Message}");
                    break;
                case TestStatus.Passed:
                    Console.WriteLine($"Passed  {result.FullName} ({result.Duration * 1000:F0} ms)");
                    break;
            }
        }
    }
}
