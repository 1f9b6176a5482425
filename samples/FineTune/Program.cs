using System.Globalization;

using TorchSharp;

Console.WriteLine(string.Format(
    CultureInfo.InvariantCulture,
    "TorchSharp {0} with {1} threads",
    typeof(torch).Assembly.GetName().Version,
    Environment.ProcessorCount));
return 0;
