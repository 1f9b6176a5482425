using CppSharp;
using CppSharp.AST;
using CppSharp.Generators;
using CppSharp.Parser;

namespace MoEKernels.BindingsGenerator.Reading;

/// <summary>CppSharp's view of the header, and the target's type sizes.</summary>
internal sealed record ParsedHeader(TranslationUnit Unit, TargetSizes Sizes)
{
    /// <summary>Parses a C header with clang, for one fixed target: every machine writes the same bindings.</summary>
    /// <exception cref="GeneratorException">The file is missing or clang reports an error.</exception>
    internal static ParsedHeader Parse(string path)
    {
        if (!File.Exists(path))
            throw new GeneratorException($"header '{path}' does not exist.");

        DriverOptions options = new() { GeneratorKind = GeneratorKind.CSharp, Quiet = true };
        Module module = options.AddModule("moekernels");
        module.IncludeDirs.Add(Path.GetDirectoryName(path)!);
        module.Headers.Add(Path.GetFileName(path));

        using Driver driver = new(options);
        ParserOptions parser = driver.ParserOptions;
        parser.TargetTriple = "x86_64-pc-linux-gnu";
        parser.MicrosoftMode = false;
        parser.LanguageVersion = LanguageVersion.C99;
        // Only clang's own freestanding headers: neither a compiler nor a C library has to be installed.
        parser.NoBuiltinIncludes = true;
        parser.NoStandardIncludes = true;
        parser.AddSystemIncludeDirs(parser.BuiltinsDir);
        parser.AddArguments("-ffreestanding");

        driver.Setup();
        if (!driver.ParseCode())
            throw new GeneratorException($"clang cannot parse '{path}', see above.");

        TranslationUnit unit = driver.Context.ASTContext.TranslationUnits
            .Single(u => u.IsValid && Path.GetFullPath(u.FilePath) == Path.GetFullPath(path));
        return new ParsedHeader(unit, TargetSizes.From(driver.Context.TargetInfo));
    }
}
