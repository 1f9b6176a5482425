using System.Reflection;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace MoEKernels.Tests;

/// <summary>Every package the repository refers to is named in THIRD-PARTY-NOTICES with its licence.</summary>
public sealed partial class ThirdPartyNoticesTests
{
    private static readonly string Root = Assembly.GetExecutingAssembly()
        .GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "RepositoryRoot").Value!;

    private static IEnumerable<string> Packages
        => XDocument.Load(Path.Combine(Root, "Directory.Packages.props"))
            .Descendants("PackageVersion").Select(package => package.Attribute("Include")!.Value);

    [TestCaseSource(nameof(Packages))]
    public void Package_IsNamedInTheNotices(string package)
    {
        var names = File.ReadLines(Path.Combine(Root, "THIRD-PARTY-NOTICES"))
            .Select(line => PackageName().Match(line).Value);

        Assert.That(names, Does.Contain(package));
    }

    [GeneratedRegex(@"(?<=^ *)[\w.-]+")]
    private static partial Regex PackageName();
}
