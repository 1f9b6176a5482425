using MoEKernels.TorchSharp;

namespace Llama;

/// <summary>Saves adapters to folders and loads them: as PEFT does where PEFT knows the method, as one file of this library otherwise.</summary>
internal static class AdapterFolder
{
    /// <summary>The name of the file in this library's own format.</summary>
    public const string FileName = "adapter.safetensors";

    private static readonly string[] PeftFileNames = [PeftConfig.FileName, PeftAdapter.WeightsFileName];

    /// <summary>Saves an adapter. What an earlier one has left in the folder in the other form is removed.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="folder">The folder; it is made when missing.</param>
    /// <returns>The files.</returns>
    /// <exception cref="UserException">The folder cannot be written to.</exception>
    public static IReadOnlyList<string> Save(AdapterHandle adapter, string folder)
    {
        try
        {
            Directory.CreateDirectory(folder);
            bool isPeft = AdapterKinds.HasPeftForm(adapter.Configuration);
            if (isPeft)
            {
                using PeftAdapter peft = PeftAdapter.Extract(adapter);
                peft.Save(folder);
            }
            else
            {
                adapter.Save(Path.Combine(folder, FileName));
            }

            string[] own = [FileName];
            foreach (string other in isPeft ? own : PeftFileNames)
                File.Delete(Path.Combine(folder, other));
            return [.. (isPeft ? PeftFileNames : own).Select(name => Path.Combine(folder, name))];
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new UserException($"cannot save the adapter to '{folder}': {failure.Message}", failure);
        }
    }

    /// <summary>Adds a saved adapter to a model.</summary>
    /// <param name="model">The model that it was trained on.</param>
    /// <param name="folder">A folder that <see cref="Save"/> or PEFT wrote.</param>
    /// <exception cref="UserException">The folder holds no adapter, a file is damaged, or the adapter does not fit the model.</exception>
    public static AdapterHandle Load(CausalModel model, string folder)
    {
        string own = Path.Combine(folder, FileName);
        bool isPeft = File.Exists(Path.Combine(folder, PeftConfig.FileName));
        if (!isPeft && !File.Exists(own))
            throw new UserException($"'{folder}' holds no adapter: neither {PeftConfig.FileName} nor {FileName}");
        try
        {
            if (!isPeft)
                return model.LoadAdapter(own);
            using PeftAdapter peft = PeftAdapter.Load(folder);
            return peft.Apply(model);
        }
        catch (Exception failure) when (failure is IOException or InvalidDataException or NotSupportedException or ArgumentException or UnauthorizedAccessException)
        {
            throw new UserException($"cannot load the adapter of '{folder}': {failure.Message}", failure);
        }
    }
}
