using MoEKernels.BindingsGenerator.Model;

namespace MoEKernels.BindingsGenerator.Writing;

/// <summary>
/// Writes the layout table: where clang puts every field, and where the C# compiler puts it. The numbers of the C# side
/// are expressions over real structs, so no reflection is needed and the table works in trimmed and ahead-of-time
/// compiled programs.
/// </summary>
internal static class LayoutTableWriter
{
    /// <summary>Writes the table's types and the table.</summary>
    internal static void Write(SourceWriter writer, IReadOnlyList<StructModel> structs)
    {
        writer.Line();
        writer.Line("/// <summary>A field's place in bytes: as clang computed it, and as it is in C#.</summary>");
        writer.Line("internal sealed record NativeField(");
        using (writer.Indented())
            writer.Line("string Name, int Offset, int Size, int ManagedOffset, int ManagedSize);");
        writer.Line();
        writer.Line("/// <summary>A struct's size in bytes, as clang computed it and in C#, and its fields.</summary>");
        writer.Line("internal sealed record NativeStruct(");
        using (writer.Indented())
            writer.Line("string Name, int Size, int ManagedSize, IReadOnlyList<NativeField> Fields);");
        writer.Line();
        writer.Line("/// <summary>The layout of every struct of the header, under the header's names.</summary>");
        using IDisposable body = writer.Block("internal static unsafe class NativeLayout");
        writer.Line("/// <summary>All structs, in the header's order.</summary>");
        writer.Line("internal static IReadOnlyList<NativeStruct> Structs { get; } =");
        writer.Line("[");
        using (writer.Indented())
        {
            foreach (StructModel @struct in structs)
                writer.Line($"Describe{@struct.Name}(),");
        }
        writer.Line("];");
        foreach (StructModel @struct in structs)
            WriteStruct(writer, @struct);
    }

    private static void WriteStruct(SourceWriter writer, StructModel @struct)
    {
        writer.Line();
        using IDisposable body = writer.Block($"private static NativeStruct Describe{@struct.Name}()");
        writer.Line($"{@struct.Name} value = default;");
        writer.Line("byte* start = (byte*)&value;");
        writer.Line($"return new(\"{@struct.NativeName}\", {@struct.Size}, sizeof({@struct.Name}),");
        writer.Line("[");
        using (writer.Indented())
        {
            foreach (FieldModel field in @struct.Fields)
            {
                string type = field.ArrayLength is null ? field.Type.Name : $"{@struct.Name}.{field.ArrayTypeName}";
                writer.Line(
                    $"new(\"{field.NativeName}\", {field.Offset}, {field.Size}, "
                    + $"(int)((byte*)&value.{field.Name} - start), sizeof({type})),");
            }
        }
        writer.Line("]);");
    }
}
