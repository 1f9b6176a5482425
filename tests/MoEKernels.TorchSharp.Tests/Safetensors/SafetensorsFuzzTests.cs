using System.Globalization;
using System.Text;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

/// <summary>Thousands of damaged files: each is either read or refused with the documented exception, and none takes more memory than it has bytes.</summary>
public sealed class SafetensorsFuzzTests
{
    private const int Mutants = 6000;
    private const int MutantsOnDisk = 400;

    // What a number in the header may be replaced by, edge cases first.
    private static readonly string[] Numbers =
    [
        "0", "-1", "1", "7", "8", "255", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615", "1e3", "1.5", "1e400", "-0", "00",
        "null", "\"1\"", "[]", "{}", "true",
    ];

    private static readonly string[] Snippets =
    [
        "\"", "{", "}", "[", "]", ",", ":", "\\", "\\ud800", "\\u0000", "\0", "\uFFFD", "\"dtype\":\"F32\"", "\"shape\":[1]", "\"data_offsets\":[0,4]", "\"__metadata__\":{}",
        "[[[[[[[[[[[[[[[[[[[[", "//", "/*", " ", "\n", "\uFEFF", "F64", "BF16", "U64", "F8_E4M3",
    ];

    [TestCase(1)]
    [TestCase(2)]
    public void Load_MutantsOfValidFiles_AreReadOrRefused(int seed)
    {
        byte[][] valid = ValidFiles();
        var random = new Random(seed);
        int read = 0;
        // The first exception loads resources of the runtime, which are no file's fault.
        Try(new MemoryStream([1]), []);
        for (int i = 0; i < Mutants; i++)
        {
            byte[] mutant = Mutate(valid[random.Next(valid.Length)], random);
            using var stream = new MemoryStream(mutant, writable: false);
            if (Try(stream, mutant))
                read++;
        }
        TestContext.Out.WriteLine($"seed {seed}: {read} of {Mutants} mutants were still valid");
        Assert.That(read, Is.InRange(Mutants / 200, Mutants / 2), "mutants that are all refused, or hardly ever, test nothing");
    }

    [Test]
    public void Open_MutantsOnDisk_AreReadOrRefused()
    {
        string folder = Directory.CreateTempSubdirectory("fuzz").FullName;
        try
        {
            byte[][] valid = ValidFiles();
            var random = new Random(3);
            string path = Path.Combine(folder, "mutant.safetensors");
            long before = Tensor.TotalCount;
            for (int i = 0; i < MutantsOnDisk; i++)
            {
                byte[] mutant = Mutate(valid[random.Next(valid.Length)], random);
                File.WriteAllBytes(path, mutant);
                try
                {
                    foreach (Tensor tensor in SafetensorsFile.Load(path).Values)
                        tensor.Dispose();
                }
                catch (Exception e) when (e is InvalidDataException or NotSupportedException)
                {
                    Assert.That(e.Message, Does.Contain(path));
                }
                // A mapping that is left behind would keep the file in use.
                File.Delete(path);
            }
            Assert.That(Tensor.TotalCount, Is.EqualTo(before));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static bool Try(Stream stream, byte[] mutant)
    {
        long length = stream.Length;
        long before = GC.GetAllocatedBytesForCurrentThread();
        IReadOnlyDictionary<string, Tensor>? tensors = null;
        Exception? refused = null;
        try
        {
            tensors = SafetensorsFile.Load(stream);
        }
        catch (Exception e) when (e is InvalidDataException or NotSupportedException)
        {
            refused = e;
        }
        catch (Exception e)
        {
            Assert.Fail($"{e.GetType().Name} instead of a documented exception: {e}\n{Convert.ToHexString(mutant)}");
        }
        long managed = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.That(managed, Is.LessThan(200_000 + 100 * length), $"managed memory for a file of {length} bytes");
        if (tensors is null)
        {
            Assert.That(refused!.Message, Does.Contain("'stream'"), "which file");
            return false;
        }
        long bytes = 0;
        foreach (Tensor tensor in tensors.Values)
        {
            bytes += tensor.numel() * tensor.ElementSize;
            tensor.Dispose();
        }
        Assert.That(bytes, Is.LessThanOrEqualTo(length));
        return true;
    }

    private static byte[][] ValidFiles()
    {
        using var scope = NewDisposeScope();
        Dictionary<string, Tensor>[] files =
        [
            [],
            new() { ["a"] = ones(3) },
            new()
            {
                ["base_model.model.layers.0.q_proj.lora_A.weight"] = randn(2, 6),
                ["base_model.model.layers.0.q_proj.lora_B.weight"] = randn(6, 2).to(ScalarType.BFloat16),
                ["ids"] = arange(5),
                ["scalar"] = tensor(1.0),
                ["none"] = empty(0, 4),
                ["flags"] = tensor(new[] { true, false, true }),
            },
        ];
        var metadata = new Dictionary<string, string> { ["format"] = "pt", ["ü"] = "\"quoted\"" };
        return [.. files.SelectMany(tensors => new[] { Save(tensors, null), Save(tensors, metadata) })];
    }

    private static byte[] Save(Dictionary<string, Tensor> tensors, Dictionary<string, string>? metadata)
    {
        using var stream = new MemoryStream();
        SafetensorsFile.SaveTo(stream, tensors, metadata);
        return stream.ToArray();
    }

    private static byte[] Mutate(byte[] file, Random random)
    {
        int header = (int)BitConverter.ToInt64(file);
        string json = Encoding.UTF8.GetString(file, 8, header);
        byte[] data = file[(8 + header)..];
        int steps = 1 + random.Next(3);
        byte[]? bytes = null;
        for (int i = 0; i < steps; i++)
        {
            switch (random.Next(bytes is null ? 9 : 4))
            {
                case 0: // any byte, any bit
                    bytes ??= Build(json, data);
                    if (bytes.Length > 0)
                        bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
                    break;
                case 1: // cut or lengthened
                    bytes ??= Build(json, data);
                    bytes = random.Next(2) == 0 ? bytes[..random.Next(bytes.Length + 1)] : [.. bytes, .. new byte[random.Next(20)]];
                    break;
                case 2: // the header's length
                    bytes ??= Build(json, data);
                    ulong[] lengths = [0, 1, 7, 8, (ulong)bytes.Length, (ulong)bytes.Length - 8, 100_000_000, 100_000_001, int.MaxValue, uint.MaxValue, long.MaxValue, ulong.MaxValue];
                    if (bytes.Length >= 8)
                        BitConverter.TryWriteBytes(bytes, lengths[random.Next(lengths.Length)]);
                    break;
                case 3: // random bytes
                    bytes ??= Build(json, data);
                    int from = random.Next(bytes.Length + 1);
                    random.NextBytes(bytes.AsSpan(from, Math.Min(bytes.Length - from, random.Next(9))));
                    break;
                case 4: // a number
                    json = ReplaceNumber(json, Numbers[random.Next(Numbers.Length)], random);
                    break;
                case 5: // something put in
                    json = json.Insert(random.Next(json.Length + 1), Snippets[random.Next(Snippets.Length)]);
                    break;
                case 6: // something taken out
                    int at = random.Next(json.Length);
                    json = json.Remove(at, Math.Min(json.Length - at, 1 + random.Next(12)));
                    break;
                case 7: // a piece twice
                    int begin = random.Next(json.Length);
                    string piece = json.Substring(begin, Math.Min(json.Length - begin, 1 + random.Next(80)));
                    json = json.Insert(random.Next(json.Length + 1), piece);
                    break;
                case 8: // a number a little off
                    json = ReplaceNumber(json, null, random);
                    break;
            }
            if (json.Length == 0)
                json = " ";
        }
        return bytes ?? Build(json, data);
    }

    private static string ReplaceNumber(string json, string? replacement, Random random)
    {
        var places = System.Text.RegularExpressions.Regex.Matches(json, "[0-9]+");
        if (places.Count == 0)
            return json;
        var place = places[random.Next(places.Count)];
        if (replacement is null && long.TryParse(place.Value, CultureInfo.InvariantCulture, out long old))
            replacement = (old + random.Next(-2, 3)).ToString(CultureInfo.InvariantCulture);
        return json.Remove(place.Index, place.Length).Insert(place.Index, replacement ?? "0");
    }

    private static byte[] Build(string json, byte[] data)
    {
        byte[] header = Encoding.UTF8.GetBytes(json);
        return [.. BitConverter.GetBytes((long)header.Length), .. header, .. data];
    }
}
