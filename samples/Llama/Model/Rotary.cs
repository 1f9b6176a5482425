using static TorchSharp.torch;

namespace Llama;

/// <summary>Rotary positions (Su et al. 2021) as Hugging Face lays them out: a pair is a channel of the first half of a head and one of the second.</summary>
internal sealed class Rotary
{
    private readonly float[] _frequencies;

    /// <summary>Computes the frequencies.</summary>
    /// <param name="config">The model.</param>
    public Rotary(ModelConfig config) => _frequencies = [.. Frequencies(config).Select(frequency => (float)frequency)];

    /// <summary>Radians per position of every pair of channels.</summary>
    /// <param name="config">The model.</param>
    public static IEnumerable<double> Frequencies(ModelConfig config)
    {
        for (int channel = 0; channel < config.HeadWidth; channel += 2)
        {
            double frequency = Math.Pow(config.RotaryBase, -(double)channel / config.HeadWidth);
            yield return config.RotaryScaling?.Scale(frequency) ?? frequency;
        }
    }

    /// <summary>The angles of neighbouring positions. They are computed in f32, as in the program that the checkpoints come from.</summary>
    /// <param name="first">The first position.</param>
    /// <param name="count">How many.</param>
    /// <param name="like">A tensor of the type and on the device that the angles are needed in.</param>
    public RotaryAngles At(long first, long count, Tensor like)
    {
        Tensor positions = arange(first, first + count, dtype: float32, device: like.device);
        Tensor half = outer(positions, tensor(_frequencies, device: like.device));
        Tensor angles = cat([half, half], dim: -1);
        return new RotaryAngles(angles.cos().to(like.dtype), angles.sin().to(like.dtype));
    }
}
