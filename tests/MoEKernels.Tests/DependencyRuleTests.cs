using System.Reflection;

namespace MoEKernels.Tests;

/// <summary>
/// The raw layer must stay usable without TorchSharp, so its assembly may refer to the framework and the logging
/// abstractions only.
/// </summary>
public sealed class DependencyRuleTests
{
    [Test]
    public void RawLayer_ReferencesOnlyFrameworkAndLoggingAbstractions()
    {
        var foreign = Assembly.Load("MoEKernels").GetReferencedAssemblies()
            .Select(name => name.Name!)
            .Where(name => !name.StartsWith("System.", StringComparison.Ordinal)
                && name != "Microsoft.Extensions.Logging.Abstractions");

        Assert.That(foreign, Is.Empty);
    }
}
