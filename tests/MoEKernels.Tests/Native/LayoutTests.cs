using System.Text;
using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels.Tests;

public sealed unsafe class LayoutTests
{
    [OneTimeSetUp]
    public void Load() => MoeRuntime.Initialize();

    [TestCaseSource(nameof(StructNames))]
    public void Struct_LiesInCSharpAsInTheHeaderAndInTheLibrary(string name)
    {
        NativeStruct type = NativeLayout.Structs.Single(candidate => candidate.Name == name);

        Assert.Multiple(() =>
        {
            Assert.That(type.ManagedSize, Is.EqualTo(type.Size), name);
            Assert.That(Query(type.Name, ""), Is.EqualTo((MoeStatus.Ok, 0UL, (ulong)type.Size)), name);
            foreach (NativeField field in type.Fields)
            {
                Assert.That((field.ManagedOffset, field.ManagedSize), Is.EqualTo((field.Offset, field.Size)),
                    field.Name);
                Assert.That(Query(type.Name, field.Name), Is.EqualTo(
                    (MoeStatus.Ok, (ulong)field.Offset, (ulong)field.Size)), field.Name);
            }
        });
    }

    [Test]
    public void Table_HoldsEveryStructTheOpsTake() => Assert.That(StructNames, Is.SupersetOf(
        new[] { "moek_gate_args", "moek_gate_bias_update_args", "moek_rank_lora_args", "moek_core_merge_args",
        "moek_dropout_args",
            "moek_context_options", "moek_context_info", "moek_device_info" }));

    [Test]
    public void Query_UnknownStructOrField_Fails() => Assert.Multiple(() =>
    {
        Assert.That(Query("moek_nothing", "").Status, Is.EqualTo(MoeStatus.InvalidArgument));
        Assert.That(Query("moek_gate_args", "nothing").Status, Is.EqualTo(MoeStatus.InvalidArgument));
    });

    [Test]
    public void Handshake_FindsAShiftedFieldAndAWrongSize()
    {
        NativeStruct type = NativeLayout.Structs.Single(candidate => candidate.Name == "moek_gate_args");
        NativeField field = type.Fields.Single(candidate => candidate.Name == "logits_stride");

        Assert.Multiple(() =>
        {
            Assert.That(AbiHandshake.FindMismatch(type), Is.Null);
            Assert.That(AbiHandshake.FindMismatch(type with { ManagedSize = type.Size + 8 }),
                Does.Contain("moek_gate_args"));
            Assert.That(AbiHandshake.FindMismatch(
                type with { Fields = [field with { ManagedOffset = field.Offset + 8 }] }),
                Does.Contain("moek_gate_args.logits_stride").And.Contain($"at {field.Offset} there"));
            Assert.That(AbiHandshake.FindMismatch(type with { Fields = [field with { Name = "gone" }] }),
                Does.Contain("moek_gate_args.gone"));
        });
    }

    private static IEnumerable<string> StructNames() => NativeLayout.Structs.Select(type => type.Name);

    private static (MoeStatus Status, ulong Offset, ulong Size) Query(string type, string field)
    {
        ulong offset = ulong.MaxValue;
        ulong size = ulong.MaxValue;
        fixed (byte* typeName = Encoding.UTF8.GetBytes(type + '\0'))
        fixed (byte* fieldName = Encoding.UTF8.GetBytes(field + '\0'))
        {
            int status = NativeMethods.StructLayout(typeName, fieldName, &offset, &size);
            return ((MoeStatus)status, offset, size);
        }
    }
}
