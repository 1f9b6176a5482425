using System.Collections.ObjectModel;
using System.Globalization;
using System.Text.Json;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Writes down what every router of a model decides, in training and in evaluation, until it is disposed of: the chosen ids and their weights, token
/// by token.
/// </summary>
/// <remarks>
/// The decisions are copied to the host, T k numbers of eight bytes per layer and forward pass. One trace per model at a time; adapters that come
/// later are not part of it.
/// </remarks>
public sealed class RouterTrace : IDisposable
{
    private readonly List<(ITraceableRouter Router, RouterTraceLayer Layer)> _attached = [];

    private RouterTrace(Dictionary<string, RouterTraceLayer> layers) => Layers = new ReadOnlyDictionary<string, RouterTraceLayer>(layers);

    /// <summary>The routers by their path in the model.</summary>
    public IReadOnlyDictionary<string, RouterTraceLayer> Layers { get; }

    /// <summary>Starts writing down.</summary>
    /// <param name="model">A model with at least one router: SMoRA, CoMoL or <see cref="TopKGate"/>.</param>
    /// <exception cref="InvalidOperationException">The model has no router, or a trace already.</exception>
    public static RouterTrace Record(nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        var found = new List<(string Path, ITraceableRouter Router)>();
        var seen = new HashSet<object>(ReferenceEqualityComparer.Instance);
        foreach ((string path, nn.Module module) in model.named_modules().Prepend((string.Empty, model)))
        {
            if (module is not ITraceableRouter router || !seen.Add(router))
                continue;
            if (router.Trace is not null)
                throw new InvalidOperationException($"The router '{path}' is being traced already; dispose of that trace first.");
            found.Add((path, router));
        }
        if (found.Count == 0)
            throw new InvalidOperationException($"The model has no router; expected a {nameof(SMoRALinear)}, {nameof(CoMoLLinear)} or {nameof(TopKGate)} in it.");

        var layers = new Dictionary<string, RouterTraceLayer>();
        var trace = new RouterTrace(layers);
        foreach ((string path, ITraceableRouter router) in found)
        {
            var layer = new RouterTraceLayer(path, router.RouteCount);
            layers.Add(path, layer);
            router.Trace = layer;
            trace._attached.Add((router, layer));
        }
        return trace;
    }

    /// <summary>Forgets what was written down so far.</summary>
    public void Clear()
    {
        foreach (RouterTraceLayer layer in Layers.Values)
            layer.Clear();
    }

    /// <summary>
    /// Writes the trace as JSON: an array with an object for each router, <c>path</c>, <c>routes</c>, <c>k</c>, <c>ids</c> and <c>weights</c>, the last
    /// two with a row for each token.
    /// </summary>
    /// <param name="stream">Where to write; stays open.</param>
    public void WriteJson(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        using var json = new Utf8JsonWriter(stream);
        json.WriteStartArray();
        foreach (RouterTraceLayer layer in Layers.Values)
        {
            json.WriteStartObject();
            json.WriteString("path", layer.Path);
            json.WriteNumber("routes", layer.RouteCount);
            json.WriteNumber("k", layer.K);
            json.WriteStartArray("ids");
            for (int token = 0; token < layer.TokenCount; token++)
            {
                json.WriteStartArray();
                foreach (int id in layer.IdsOf(token))
                    json.WriteNumberValue(id);
                json.WriteEndArray();
            }
            json.WriteEndArray();
            json.WriteStartArray("weights");
            for (int token = 0; token < layer.TokenCount; token++)
            {
                json.WriteStartArray();
                foreach (float weight in layer.WeightsOf(token))
                    WriteNumber(json, weight);
                json.WriteEndArray();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    /// <summary>Writes the trace as CSV with a line for each choice: path, token, slot, id, weight.</summary>
    /// <param name="writer">Where to write; stays open.</param>
    public void WriteCsv(TextWriter writer)
    {
        ArgumentNullException.ThrowIfNull(writer);
        writer.Write("path,token,slot,id,weight\n");
        foreach (RouterTraceLayer layer in Layers.Values)
        {
            for (int token = 0; token < layer.TokenCount; token++)
            {
                ReadOnlySpan<int> ids = layer.IdsOf(token);
                ReadOnlySpan<float> weights = layer.WeightsOf(token);
                for (int slot = 0; slot < ids.Length; slot++)
                    writer.Write(string.Create(CultureInfo.InvariantCulture, $"{layer.Path},{token},{slot},{ids[slot]},{weights[slot]}\n"));
            }
        }
    }

    /// <summary>Stops writing down; what was written stays.</summary>
    public void Dispose()
    {
        foreach ((ITraceableRouter router, RouterTraceLayer layer) in _attached)
        {
            if (ReferenceEquals(router.Trace, layer))
                router.Trace = null;
        }
        _attached.Clear();
    }

    // JSON has no NaN and no infinity.
    private static void WriteNumber(Utf8JsonWriter json, float value)
    {
        if (float.IsFinite(value))
            json.WriteNumberValue(value);
        else
            json.WriteNullValue();
    }
}
