using System.Globalization;

namespace RawCuda;

/// <summary>What the command line says.</summary>
/// <param name="OnCpu">Run on the CPU, where memory is the host's and there are no graphs.</param>
/// <param name="Device">Which GPU.</param>
/// <param name="Tokens">Rows of x.</param>
/// <param name="Width">Columns of x and y.</param>
/// <param name="Repeats">Calls per measurement.</param>
internal sealed record Options(bool OnCpu, int Device, long Tokens, long Width, int Repeats)
{
    internal const string Usage =
        """
        Usage: dotnet run -c Release --project samples/RawCuda [-- options]
          --cpu           run on the CPU instead of a GPU
          --device N      which GPU (0)
          --tokens T      rows of x (8192; 512 with --cpu)
          --width D       columns of x and y (4096; 1024 with --cpu)
          --repeats N     calls per measurement (20)
        """;

    /// <exception cref="FormatException">The command line is wrong; the message says what is.</exception>
    internal static Options Parse(string[] arguments)
    {
        bool onCpu = arguments.Contains("--cpu");
        Options result = new(onCpu, 0, onCpu ? 512 : 8192, onCpu ? 1024 : 4096, 20);
        for (int i = 0; i < arguments.Length; i++)
        {
            string name = arguments[i];
            if (name == "--cpu")
                continue;
            if (name is not ("--device" or "--tokens" or "--width" or "--repeats"))
                throw new FormatException($"unknown argument '{name}'");
            int least = name == "--device" ? 0 : 1;
            if (++i == arguments.Length || !int.TryParse(arguments[i], NumberStyles.None, CultureInfo.InvariantCulture, out int value)
                || value < least)
            {
                throw new FormatException($"{name}: expected a number of at least {least}");
            }
            result = name switch
            {
                "--device" => result with { Device = value },
                "--tokens" => result with { Tokens = value },
                "--width" => result with { Width = value },
                _ => result with { Repeats = value },
            };
        }
        return result;
    }
}
