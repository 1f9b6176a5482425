using System.Runtime.InteropServices;
using MoEKernels.Native;

namespace MoEKernels.Tests;

public sealed class ExportTests
{
    [TestCaseSource(nameof(EntryPoints))]
    public void EntryPoint_IsExported(string name)
    {
        nint library = NativeLibrary.Load(MoeRuntime.LoadedLibraryPath);
        try
        {
            Assert.That(NativeLibrary.TryGetExport(library, name, out _),
                $"{name} is missing from {MoeRuntime.LoadedLibraryPath}");
        }
        finally
        {
            NativeLibrary.Free(library);
        }
    }

    [Test]
    public void Table_HoldsEveryOp() => Assert.That(NativeHeader.EntryPoints, Is.SupersetOf(
        new[] { "moek_gate_forward", "moek_gate_backward", "moek_gate_bias_update", "moek_rank_lora_forward",
        "moek_rank_lora_backward",
            "moek_core_merge_forward", "moek_core_merge_backward", "moek_dropout_mask" }));

    private static IEnumerable<string> EntryPoints() => NativeHeader.EntryPoints;
}
