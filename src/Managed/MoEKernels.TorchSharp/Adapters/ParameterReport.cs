using System.Globalization;
using System.Text;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>What a model trains.</summary>
/// <param name="Trainable">Numbers in the parameters that require gradients.</param>
/// <param name="Total">Numbers in all parameters.</param>
/// <param name="Modules">The modules that train something of their own, in the order of the model.</param>
public sealed record ParameterReport(long Trainable, long Total, IReadOnlyList<ModuleParameters> Modules)
{
    /// <summary>The trainable share of all parameters, 0 to 1.</summary>
    public double Share => Total == 0 ? 0 : (double)Trainable / Total;

    /// <summary>A table for people.</summary>
    public override string ToString()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"{Trainable:N0} of {Total:N0} parameters trainable ({Share:P2})");
        foreach (ModuleParameters module in Modules)
            text.AppendLine().Append(CultureInfo.InvariantCulture, $"{module.Trainable,14:N0}  {(double)module.Trainable / Trainable,8:P2}  {module.Path} ({module.Kind})");
        return text.ToString();
    }

    internal static ParameterReport Of(nn.Module model)
    {
        var seen = new HashSet<IntPtr>();
        var modules = new List<ModuleParameters>();
        long trainable = 0, total = 0;
        Dictionary<string, AdapterLinear> adapters = [];
        Dictionary<string, nn.Module> owners = [];
        foreach ((string path, nn.Module module) in model.named_modules())
        {
            owners.TryAdd(path, module);
            if (module is AdapterLinear adapter)
                adapters.TryAdd(path, adapter);
        }
        foreach ((string name, Parameter parameter) in model.named_parameters())
        {
            if (!seen.Add(parameter.Handle))
                continue;
            long count = parameter.numel();
            total += count;
            if (!parameter.requires_grad)
                continue;
            trainable += count;
            (string path, string kind) = OwnerOf(name);
            if (modules.Count > 0 && modules[^1].Path == path)
                modules[^1] = modules[^1] with { Trainable = modules[^1].Trainable + count };
            else
                modules.Add(new ModuleParameters(path, kind, count));
        }
        return new ParameterReport(trainable, total, modules);

        // The adapter it belongs to, else the module that has registered it.
        (string Path, string Kind) OwnerOf(string name)
        {
            string path = Parent(name);
            for (string at = path; at.Length > 0; at = Parent(at))
            {
                if (adapters.TryGetValue(at, out AdapterLinear? adapter))
                    return (at, adapter.GetName());
            }
            return (path, owners.TryGetValue(path, out nn.Module? owner) ? owner.GetName() : model.GetName());
        }

        static string Parent(string name) => name.LastIndexOf('.') is > 0 and int at ? name[..at] : string.Empty;
    }
}

/// <summary>What one module trains.</summary>
/// <param name="Path">Its path in the model; empty for the model itself.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="Trainable">Numbers in its parameters that require gradients; an adapter counts as one module.</param>
public sealed record ModuleParameters(string Path, string Kind, long Trainable);
