// Compiled instead of the generator when the build was not asked for it.
Console.Error.WriteLine(
    """
    This build holds no generator: it needs CppSharp, which is referenced only on request.

    From NuGet:           dotnet run --project bindings/Generator -p:GenerateBindings=true
    From your own build:  dotnet run --project bindings/Generator -p:GenerateBindings=true -p:CppSharpDirectory=<folder>

    bindings/README.md says more.
    """);
return 1;
