using System.Text.Json;

namespace Llama;

/// <summary>Reads the JSON files of a model folder.</summary>
internal static class JsonFile
{
    /// <summary>Model folders hold nothing that is deeper.</summary>
    private const int MaxDepth = 64;

    /// <summary>Reads a file that must be there.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="UserException">There is none, it cannot be read, or it holds no JSON object.</exception>
    public static JsonFields Read(string path) =>
        ReadIfThere(path) ?? throw new UserException($"'{path}' does not exist");

    /// <summary>Reads a file.</summary>
    /// <param name="path">The file.</param>
    /// <returns>Its fields, or null where there is no such file.</returns>
    /// <exception cref="UserException">It cannot be read, or it holds no JSON object.</exception>
    public static JsonFields? ReadIfThere(string path)
    {
        if (!File.Exists(path))
            return null;
        try
        {
            using FileStream stream = File.OpenRead(path);
            using JsonDocument document = JsonDocument.Parse(stream, new JsonDocumentOptions { MaxDepth = MaxDepth });
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? new JsonFields(document.RootElement.Clone(), $"'{path}'")
                : throw new UserException($"'{path}' holds a JSON {document.RootElement.ValueKind.ToString().ToLowerInvariant()}; expected an object");
        }
        catch (JsonException failure)
        {
            throw new UserException($"'{path}' is not valid JSON: {failure.Message}", failure);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new UserException($"cannot read '{path}': {failure.Message}", failure);
        }
    }
}
