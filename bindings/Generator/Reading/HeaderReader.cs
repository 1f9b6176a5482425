using System.Security.Cryptography;
using CppSharp.AST;
using CppSharp.AST.Extensions;
using MoEKernels.BindingsGenerator.Model;
using CType = CppSharp.AST.Type;

namespace MoEKernels.BindingsGenerator.Reading;

/// <summary>Reads the header into the model and refuses what has no raw binding.</summary>
internal sealed class HeaderReader
{
    // What else the generated file declares beside the header's types.
    private static readonly string[] ReservedTypeNames =
        ["Constants", "NativeField", "NativeHeader", "NativeLayout", "NativeMethods", "NativeStruct"];

    private readonly TranslationUnit _unit;
    private readonly IReadOnlyDictionary<string, Class> _structs;
    private readonly Dictionary<string, RawComment> _typedefComments;
    private readonly TypeMapper _types;

    private HeaderReader(ParsedHeader header)
    {
        _unit = header.Unit;
        _structs = _unit.Classes.Where(c => !c.IsIncomplete).DistinctBy(c => c.Name).ToDictionary(c => c.Name);
        // clang gives the comment of "typedef struct a a;" to the typedef alone.
        _typedefComments = _unit.Typedefs.Where(t => t.Comment is not null).DistinctBy(t => t.Name)
            .ToDictionary(t => t.Name, t => t.Comment);
        _types = new TypeMapper(header.Sizes, _structs);
    }

    /// <summary>Parses the header and builds the model.</summary>
    /// <exception cref="GeneratorException">
    /// The header cannot be parsed or has a construct without a raw binding.
    /// </exception>
    internal static HeaderModel Read(string path) =>
        new HeaderReader(ParsedHeader.Parse(path)).Build(path);

    private HeaderModel Build(string path)
    {
        if (_unit.Variables.FirstOrDefault() is { } variable)
            throw new GeneratorException($"{variable.Name}: global variables have no raw binding.");

        string[] lines = File.ReadAllLines(path);
        ConstantModel[] constants = [.. MacroReader.Read(_unit, lines)];
        EnumModel[] enums = [.. _unit.Enums.Select(ReadEnum)];
        HandleModel[] handles = [.. _unit.Classes.Where(IsHandle).DistinctBy(c => c.Name).Select(ReadHandle)];
        StructModel[] structs = [.. _structs.Values.Select(ReadStruct)];
        FunctionModel[] functions = [.. _unit.Functions.DistinctBy(f => f.Name).Select(ReadFunction)];

        Naming.RequireDistinct("types", ReservedTypeNames.Select(n => (n, n))
            .Concat(enums.Select(e => (e.NativeName, e.Name)))
            .Concat(handles.Select(h => (h.NativeName, h.Name)))
            .Concat(structs.Select(s => (s.NativeName, s.Name))));
        Naming.RequireDistinct("functions", functions.Select(f => (f.NativeName, f.Name)));
        Naming.RequireDistinct("constants", constants.Select(c => (c.NativeName, c.Name)));

        string hash = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(path)));
        SymbolTable symbols = Symbols(constants, enums, handles, structs, functions);
        return new HeaderModel(hash, constants, enums, handles, structs, functions, symbols);
    }

    private SymbolTable Symbols(
        ConstantModel[] constants,
        EnumModel[] enums,
        HandleModel[] handles,
        StructModel[] structs,
        FunctionModel[] functions)
    {
        SymbolTable symbols = new();
        foreach (ConstantModel constant in constants)
            symbols.Add(constant.NativeName, $"Constants.{constant.Name}");
        foreach (EnumModel @enum in enums)
        {
            symbols.Add(@enum.NativeName, @enum.Name);
            foreach (EnumItemModel item in @enum.Items)
                symbols.Add(item.NativeName, $"{@enum.Name}.{item.Name}");
        }
        foreach (HandleModel handle in handles)
            symbols.Add(handle.NativeName, handle.Name);
        foreach (StructModel @struct in structs)
            symbols.Add(@struct.NativeName, @struct.Name);
        foreach (FunctionModel function in functions)
            symbols.Add(function.NativeName, $"NativeMethods.{function.Name}");
        foreach (TypedefNameDecl typedef in _unit.Typedefs)
            symbols.Add(typedef.Name, null);
        return symbols;
    }

    private bool IsHandle(Class @class) => @class.IsIncomplete && !_structs.ContainsKey(@class.Name);

    private HandleModel ReadHandle(Class handle) =>
        new(handle.Name, Naming.OfDeclaration(handle.Name), Doc(handle, handle.Name));

    private EnumModel ReadEnum(Enumeration @enum)
    {
        if (string.IsNullOrEmpty(@enum.Name))
            throw new GeneratorException($"the enum with {@enum.Items[0].Name} has no name, so no raw binding.");
        string name = Naming.OfDeclaration(@enum.Name);
        EnumItemModel[] items = [.. @enum.Items.Select(item => ReadEnumItem(item, @enum.Name))];
        Naming.RequireDistinct(@enum.Name, items.Select(i => (i.NativeName, i.Name)));
        bool isFlags = @enum.Name.EndsWith("_flag", StringComparison.Ordinal)
            || @enum.Name.EndsWith("_flags", StringComparison.Ordinal);
        return new EnumModel(@enum.Name, name, isFlags, items, Doc(@enum, @enum.Name));
    }

    private EnumItemModel ReadEnumItem(Enumeration.Item item, string enumName)
    {
        // Outside of this range the compilers do not agree on the enum's underlying type.
        if (item.Value > int.MaxValue)
        {
            long value = unchecked((long)item.Value);
            throw new GeneratorException($"{item.Name}: got {value}, expected a value in 0..{int.MaxValue}.");
        }
        return new EnumItemModel(
            item.Name, Naming.OfEnumItem(item.Name, enumName), (int)item.Value, Doc(item, item.Name));
    }

    private StructModel ReadStruct(Class @struct)
    {
        string name = Naming.OfDeclaration(@struct.Name);
        if (@struct.IsUnion)
            throw new GeneratorException($"{@struct.Name}: a union has no raw binding.");
        if (@struct.Classes.Any() || @struct.Enums.Any())
            throw new GeneratorException($"{@struct.Name}: a type declared inside a struct has no raw binding.");

        FieldModel[] fields = [.. @struct.Fields.Select(field => ReadField(field, @struct))];
        IEnumerable<(string, string)> members = fields.Select(f => (f.NativeName, f.Name))
            .Concat(fields.Where(f => f.ArrayLength is not null).Select(f => (f.NativeName, f.ArrayTypeName)))
            .Append((@struct.Name, name));
        Naming.RequireDistinct(@struct.Name, members);
        return new StructModel(@struct.Name, name, @struct.Layout.Size, fields, Doc(@struct, @struct.Name));
    }

    private FieldModel ReadField(Field field, Class @struct)
    {
        string owner = $"{@struct.Name}.{field.Name}";
        if (string.IsNullOrEmpty(field.Name))
            throw new GeneratorException($"{@struct.Name}: an anonymous member has no raw binding.");
        if (field.IsBitField)
            throw new GeneratorException($"{owner}: a bit-field has no raw binding.");

        CType type = field.Type;
        int? length = null;
        if (type.Desugar() is ArrayType array)
        {
            if (array.SizeType != ArrayType.ArraySize.Constant || array.Type.Desugar() is ArrayType)
                throw new GeneratorException($"{owner}: only one-dimensional fixed arrays have a raw binding.");
            type = array.Type;
            length = (int)array.Size;
        }
        int offset = (int)@struct.Layout.Fields.Single(f => f.Name == field.Name).Offset;
        return new FieldModel(
            field.Name, Naming.OfField(field.Name), _types.Map(type, owner), length, offset, Doc(field, owner));
    }

    private FunctionModel ReadFunction(Function function)
    {
        string name = Naming.OfDeclaration(function.Name);
        if (function.IsVariadic)
            throw new GeneratorException($"{function.Name}: a variadic function has no raw binding.");
        if (function.IsInline || function.BodyStmt is not null)
            throw new GeneratorException($"{function.Name}: a function defined in the header is not exported.");
        if (function.CallingConvention is not (CallingConvention.Default or CallingConvention.C))
        {
            throw new GeneratorException(
                $"{function.Name}: got calling convention {function.CallingConvention}, expected C.");
        }

        ParameterModel[] parameters = [.. function.Parameters.Select(p => ReadParameter(p, function.Name))];
        Naming.RequireDistinct(function.Name, parameters.Select(p => (p.NativeName, p.Name)));
        DocComment? doc = Doc(function, function.Name);
        CheckParameterDocs(function.Name, parameters, doc);
        return new FunctionModel(
            function.Name, name, _types.Map(function.ReturnType.Type, function.Name), parameters, doc);
    }

    // The C# compiler wants documentation of either all parameters or none.
    private static void CheckParameterDocs(string functionName, ParameterModel[] parameters, DocComment? doc)
    {
        if (doc is null || doc.Parameters.Count == 0)
            return;
        string[] names = [.. parameters.Select(p => p.NativeName)];
        if (doc.Parameters.Keys.Except(names).FirstOrDefault() is { } unknown)
            throw new GeneratorException($"{functionName}: its comment describes '{unknown}', which is no parameter.");
        if (names.Except(doc.Parameters.Keys).FirstOrDefault() is { } missing)
            throw new GeneratorException($"{functionName}: its comment omits the parameter '{missing}'.");
    }

    private ParameterModel ReadParameter(Parameter parameter, string functionName)
    {
        if (string.IsNullOrEmpty(parameter.Name))
            throw new GeneratorException($"{functionName}: every parameter needs a name.");
        ManagedType type = _types.Map(parameter.Type, $"{functionName}({parameter.Name})");
        return new ParameterModel(parameter.Name, Naming.OfParameter(parameter.Name), type);
    }

    private DocComment? Doc(Declaration declaration, string owner)
    {
        RawComment? comment = declaration.Comment;
        if (comment is null && declaration is Class or Enumeration)
            comment = _typedefComments.GetValueOrDefault(declaration.Name);
        return comment is { IsDocumentation: true } ? DocCommentReader.Read(comment.Text, owner) : null;
    }
}
