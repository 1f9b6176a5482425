using System.Text.Json.Nodes;

using MoEKernels.TorchSharp;

using static TorchSharp.torch;

namespace Llama.Tests;

/// <summary>
/// The formulas of the three families in double precision and plain loops, straight from config.json and the checkpoint's tensors. Written for reading
/// beside the papers, and without anything of the sample.
/// </summary>
internal sealed class ReferenceDecoder
{
    private readonly JsonObject _config;
    private readonly Dictionary<string, double[]> _weights = [];

    public ReferenceDecoder(string folder)
    {
        _config = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "config.json")))!.AsObject();
        using var scope = NewDisposeScope();
        using SafetensorsCheckpoint checkpoint = SafetensorsCheckpoint.Open(folder);
        foreach (string name in checkpoint.Names)
            _weights[name] = checkpoint.Read(name).to(float64).data<double>().ToArray();
    }

    private int Width => Integer("hidden_size");

    private int Heads => Integer("num_attention_heads");

    private int KeyValueHeads => Integer("num_key_value_heads");

    private int HeadWidth => _config.ContainsKey("head_dim") ? Integer("head_dim") : Width / Heads;

    /// <summary>The logits of every position.</summary>
    public double[][] Logits(IReadOnlyList<int> tokens)
    {
        double[] table = _weights["model.embed_tokens.weight"];
        double[][] x = [.. tokens.Select(token => table[(token * Width)..((token + 1) * Width)])];
        for (int layer = 0; layer < Integer("num_hidden_layers"); layer++)
        {
            string prefix = $"model.layers.{layer}.";
            double[][] attended = Attend([.. x.Select(row => Norm(row, $"{prefix}input_layernorm"))], $"{prefix}self_attn.");
            x = [.. x.Zip(attended, Add)];
            double[][] fed = [.. x.Select(row => Feed(Norm(row, $"{prefix}post_attention_layernorm"), $"{prefix}mlp."))];
            x = [.. x.Zip(fed, Add)];
        }

        double[] output = _config["tie_word_embeddings"]!.GetValue<bool>() ? table : _weights["lm_head.weight"];
        return [.. x.Select(row => Multiply(output, Norm(row, "model.norm")))];
    }

    private double[][] Attend(double[][] x, string prefix)
    {
        double[][] queries = [.. x.Select((row, position) => Place(Linear(row, $"{prefix}q_proj"), Heads, $"{prefix}q_norm", position))];
        double[][] keys = [.. x.Select((row, position) => Place(Linear(row, $"{prefix}k_proj"), KeyValueHeads, $"{prefix}k_norm", position))];
        double[][] values = [.. x.Select(row => Linear(row, $"{prefix}v_proj"))];
        double[][] mixed = [.. x.Select(_ => new double[Heads * HeadWidth])];
        for (int position = 0; position < x.Length; position++)
        {
            for (int head = 0; head < Heads; head++)
            {
                int from = head * HeadWidth;
                int shared = head / (Heads / KeyValueHeads) * HeadWidth;
                double[] weights = new double[position + 1];
                for (int other = 0; other <= position; other++)
                {
                    double product = 0;
                    for (int i = 0; i < HeadWidth; i++)
                        product += queries[position][from + i] * keys[other][shared + i];
                    weights[other] = Math.Exp(product / Math.Sqrt(HeadWidth));
                }

                double sum = weights.Sum();
                for (int other = 0; other <= position; other++)
                {
                    for (int i = 0; i < HeadWidth; i++)
                        mixed[position][from + i] += weights[other] / sum * values[other][shared + i];
                }
            }
        }

        return [.. mixed.Select(row => Linear(row, $"{prefix}o_proj"))];
    }

    /// <summary>Normalises the heads where the family does, and turns the pairs (i, i + half) by position times frequency.</summary>
    private double[] Place(double[] row, int heads, string norm, int position)
    {
        double[] placed = new double[row.Length];
        int half = HeadWidth / 2;
        for (int head = 0; head < heads; head++)
        {
            double[] channels = row[(head * HeadWidth)..((head + 1) * HeadWidth)];
            if (_weights.ContainsKey($"{norm}.weight"))
                channels = Norm(channels, norm);
            for (int i = 0; i < half; i++)
            {
                double angle = position * Frequency(i);
                placed[(head * HeadWidth) + i] = (channels[i] * Math.Cos(angle)) - (channels[i + half] * Math.Sin(angle));
                placed[(head * HeadWidth) + half + i] = (channels[i + half] * Math.Cos(angle)) + (channels[i] * Math.Sin(angle));
            }
        }

        return placed;
    }

    private double Frequency(int pair)
    {
        double frequency = 1 / Math.Pow(_config["rope_theta"]!.GetValue<double>(), 2.0 * pair / HeadWidth);
        if (_config["rope_scaling"] is not JsonObject scaling)
            return frequency;
        double factor = scaling["factor"]!.GetValue<double>();
        if (scaling["rope_type"]!.GetValue<string>() == "linear")
            return frequency / factor;

        double low = scaling["low_freq_factor"]!.GetValue<double>();
        double high = scaling["high_freq_factor"]!.GetValue<double>();
        double first = scaling["original_max_position_embeddings"]!.GetValue<int>();
        double wavelength = 2 * Math.PI / frequency;
        if (wavelength < first / high)
            return frequency;
        if (wavelength > first / low)
            return frequency / factor;
        double smooth = ((first / wavelength) - low) / (high - low);
        return ((1 - smooth) * frequency / factor) + (smooth * frequency);
    }

    private double[] Feed(double[] x, string prefix)
    {
        double[] gate = Linear(x, $"{prefix}gate_proj");
        double[] up = Linear(x, $"{prefix}up_proj");
        return Linear([.. gate.Zip(up, (g, u) => g / (1 + Math.Exp(-g)) * u)], $"{prefix}down_proj");
    }

    private double[] Norm(double[] x, string name)
    {
        double scale = 1 / Math.Sqrt(x.Average(value => value * value) + _config["rms_norm_eps"]!.GetValue<double>());
        return [.. x.Zip(_weights[$"{name}.weight"], (value, weight) => value * scale * weight)];
    }

    private double[] Linear(double[] x, string name)
    {
        double[] y = Multiply(_weights[$"{name}.weight"], x);
        return _weights.TryGetValue($"{name}.bias", out double[]? bias) ? Add(y, bias) : y;
    }

    private static double[] Multiply(double[] matrix, double[] x)
    {
        double[] y = new double[matrix.Length / x.Length];
        for (int row = 0; row < y.Length; row++)
        {
            for (int column = 0; column < x.Length; column++)
                y[row] += matrix[(row * x.Length) + column] * x[column];
        }

        return y;
    }

    private static double[] Add(double[] a, double[] b) => [.. a.Zip(b, (left, right) => left + right)];

    private int Integer(string name) => _config[name]!.GetValue<int>();
}
