using System.Text;
using MoEKernels.BindingsGenerator;
using MoEKernels.BindingsGenerator.Model;
using MoEKernels.BindingsGenerator.Reading;
using MoEKernels.BindingsGenerator.Writing;

try
{
    GeneratorOptions options = GeneratorOptions.Parse(args);
    if (options.ShowHelp)
    {
        Console.WriteLine(GeneratorOptions.Usage);
        return 0;
    }

    HeaderModel model = HeaderReader.Read(options.HeaderPath);
    string text = BindingsWriter.Write(model);
    string? before = File.Exists(options.OutputPath) ? File.ReadAllText(options.OutputPath) : null;
    bool isCurrent = string.Equals(before, text, StringComparison.Ordinal);

    if (options.CheckOnly)
    {
        if (!isCurrent)
            throw new GeneratorException($"{options.OutputPath} does not match {options.HeaderPath}; regenerate it.");
        Console.WriteLine($"{options.OutputPath} is current.");
        return 0;
    }

    if (!isCurrent)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(options.OutputPath)!);
        File.WriteAllText(options.OutputPath, text, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false));
    }
    Console.WriteLine(
        $"{options.OutputPath}: {model.Functions.Count} functions, {model.Structs.Count} structs, "
        + $"{model.Enums.Count} enums, {model.Constants.Count} constants{(isCurrent ? " (unchanged)" : "")}.");
    return 0;
}
catch (Exception e) when (e is GeneratorException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine($"error: {e.Message}");
    return 1;
}
