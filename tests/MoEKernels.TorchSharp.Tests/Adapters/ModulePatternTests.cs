namespace MoEKernels.TorchSharp.Tests;

public sealed class ModulePatternTests
{
    [TestCase("all-linear", "a.b.c", true)]
    [TestCase("q_proj", "layers.0.q_proj", true)]
    [TestCase("q_proj", "q_proj", true)]
    [TestCase("proj", "layers.0.q_proj", false)]
    [TestCase("attention.query", "layers.0.attention.query", true)]
    [TestCase("attention.query", "layers.0.self_attention.query", false)]
    [TestCase("layers.*.q_proj", "layers.12.attn.q_proj", true)]
    [TestCase("layers.?.q_proj", "layers.1.q_proj", true)]
    [TestCase("layers.?.q_proj", "layers.12.q_proj", false)]
    [TestCase("*.q_proj", "q_proj", false)]
    [TestCase("a+b", "aab", false)]
    [TestCase("layers.[0-3].*", "layers.2.q_proj", true)]
    [TestCase("layers.[0-3].*", "layers.4.q_proj", false)]
    [TestCase("layers.[!0-3].*", "layers.4.q_proj", true)]
    [TestCase("a[]x]b", "a]b", true)]
    [TestCase("a[^x]b", "a^b", true)]
    [TestCase("a[^x]b", "ayb", false)]
    [TestCase("regex:layers\\.(1|12)\\.q_proj", "layers.12.q_proj", true)]
    [TestCase("regex:q_proj", "layers.12.q_proj", false)]
    public void Matches_PathAndPattern_FollowsTheRule(string pattern, string path, bool expected)
    {
        Assert.That(new ModulePattern(pattern).Matches(path), Is.EqualTo(expected));
    }

    [TestCase("")]
    [TestCase("  ")]
    public void Constructor_EmptyText_Throws(string pattern)
    {
        Assert.That(() => new ModulePattern(pattern), Throws.ArgumentException);
    }

    [TestCase("layers.[0-3")]
    [TestCase("layers.[")]
    [TestCase("layers.[]")]
    [TestCase("layers.[3-0]")]
    [TestCase("regex:(")]
    [TestCase("regex:(?=a)")]
    public void Constructor_BadPattern_NamesIt(string pattern)
    {
        Assert.That(() => new ModulePattern(pattern, "TargetModules"), Throws.ArgumentException.With.Message.Contains($"'{pattern}'").And.Message.Contains("TargetModules"));
    }
}
