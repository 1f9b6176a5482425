using System.Security.Cryptography;
using MoEKernels.Native;

namespace MoEKernels.Tests;

public sealed class HeaderHashTests
{
    [Test]
    public void Bindings_WereGeneratedFromTheHeaderAsItIsNow()
    {
        byte[] header = File.ReadAllBytes(RepositoryFiles.Find("native/include/moekernels.h"));

        Assert.That(Convert.ToHexStringLower(SHA256.HashData(header)), Is.EqualTo(NativeHeader.Sha256),
            "native/include/moekernels.h changed: regenerate the bindings as bindings/README.md says");
    }

    [Test]
    public void Banner_NamesTheSameHash()
    {
        string banner = string.Join('\n',
            File.ReadLines(RepositoryFiles.Find("bindings/Generated/NativeMethods.g.cs")).Take(6));

        Assert.That(banner, Does.Contain(NativeHeader.Sha256).And.Contain(NativeHeader.CppSharpVersion));
    }
}
