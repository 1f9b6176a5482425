using System.Buffers.Binary;
using System.Text;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class SafetensorsFileTests
{
    private string _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("safetensors").FullName;

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    private string PathOf(string name) => Path.Combine(_folder, name);

    [Test]
    public void SaveAndLoad_EveryType_KeepsBytesShapesAndMetadata()
    {
        using var scope = NewDisposeScope();
        var tensors = new Dictionary<string, Tensor>
        {
            ["f64"] = randn(2, 3, dtype: ScalarType.Float64),
            ["f32"] = randn(2, 3),
            ["bf16"] = randn(5, dtype: ScalarType.Float32).to(ScalarType.BFloat16),
            ["f16"] = randn(1, 7).to(ScalarType.Float16),
            ["i64"] = arange(4),
            ["i32"] = arange(4, dtype: ScalarType.Int32),
            ["i16"] = arange(3, dtype: ScalarType.Int16),
            ["i8"] = arange(3, dtype: ScalarType.Int8),
            ["u8"] = arange(3, dtype: ScalarType.Byte),
            ["bool"] = tensor(new[] { true, false, true }),
            ["scalar"] = tensor(1.5f),
            ["empty"] = empty(0, 4),
            ["transposed"] = randn(3, 4).t(),
        };
        string path = PathOf("all.safetensors");
        SafetensorsFile.Save(path, tensors, new Dictionary<string, string> { ["who"] = "me \"quoted\" ü" });

        IReadOnlyDictionary<string, Tensor> loaded = SafetensorsFile.Load(path);
        Assert.That(loaded.Keys.Order(), Is.EqualTo(tensors.Keys.Order()));
        foreach ((string name, Tensor expected) in tensors)
        {
            Assert.That(loaded[name].dtype, Is.EqualTo(expected.dtype), name);
            TensorAssert.AreEqual(loaded[name], expected, name);
            loaded[name].Dispose();
        }
        Assert.That(SafetensorsFile.ReadMetadata(path), Is.EqualTo(new Dictionary<string, string> { ["who"] = "me \"quoted\" ü" }));
        Assert.That(Directory.GetFiles(_folder), Has.Length.EqualTo(1), "no temporary file is left");
    }

    [Test]
    public void Save_DataIsAlignedAndHeaderIsPadded()
    {
        using var scope = NewDisposeScope();
        string path = PathOf("aligned.safetensors");
        SafetensorsFile.Save(path, new Dictionary<string, Tensor> { ["a"] = ones(3, dtype: ScalarType.Byte), ["b"] = ones(2, dtype: ScalarType.Float64) });
        byte[] bytes = File.ReadAllBytes(path);
        long header = BinaryPrimitives.ReadInt64LittleEndian(bytes);
        Assert.That(header % 8, Is.Zero);
        Assert.That(bytes.Length, Is.EqualTo(8 + header + 16 + 3));
        Assert.That(BitConverter.ToDouble(bytes, 8 + (int)header), Is.EqualTo(1.0), "the wider type comes first");
    }

    [Test]
    public void Load_LayoutOfAnotherWriter_Works()
    {
        // Written by hand after the format's description: metadata in between, no padding, entries not in file order.
        byte[] file = Build("""{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"__metadata__":{"k":"v"},"a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}""",
            [7, 0, 0, 0, 0, 0, 128, 63]);
        string path = Write(file);
        var loaded = SafetensorsFile.Load(path);
        Assert.That(loaded["a"].item<int>(), Is.EqualTo(7));
        Assert.That(loaded["b"].item<float>(), Is.EqualTo(1f));
        foreach (Tensor tensor in loaded.Values)
            tensor.Dispose();
    }

    private static IEnumerable<TestCaseData> DamagedFiles()
    {
        static TestCaseData Case(string name, byte[] bytes, string message) => new TestCaseData(bytes, message).SetArgDisplayNames(name);
        yield return Case("empty", [], "0 bytes");
        yield return Case("short", [1, 2, 3], "3 bytes");
        yield return Case("header beyond file", [.. BitConverter.GetBytes(1000L), (byte)'{', (byte)'}'], "claims 1000");
        yield return Case("huge header", [.. BitConverter.GetBytes(ulong.MaxValue), 0, 0], "at most");
        yield return Case("not JSON", Build("hello", []), "not JSON");
        yield return Case("array", Build("[]", []), "not a JSON object");
        yield return Case("twice", Build("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", [1]), "twice");
        yield return Case("dtype unknown", Build("""{"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}""", [1]), "F8");
        yield return Case("dtype missing", Build("""{"a":{"shape":[1],"data_offsets":[0,1]}}""", [1]), "no dtype");
        yield return Case("shape missing", Build("""{"a":{"dtype":"U8","data_offsets":[0,1]}}""", [1]), "no shape");
        yield return Case("shape negative", Build("""{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}""", [1]), "-1");
        yield return Case("shape fractional", Build("""{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}""", [1]), "1.5");
        yield return Case("shape overflows", Build("""{"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,1]}}""", [1]), "impossible");
        yield return Case("too long", Build("""{"a":{"dtype":"U8","shape":[1000000000],"data_offsets":[0,1000000000]}}""", [1]), "offsets");
        yield return Case("bytes do not fit shape", Build("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", [1, 2, 3, 4]), "need 8");
        yield return Case("falling offsets", Build("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}""", [1]), "offsets");
        yield return Case("three offsets", Build("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}""", [1]), "offsets");
        yield return Case("overlap", Build("""{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}""", [1, 2, 3]), "overlap");
        yield return Case("gap", Build("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}""", [1, 2]), "gaps");
        yield return Case("bytes left over", Build("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", [1, 2]), "2 follow");
        yield return Case("metadata not texts", Build("""{"__metadata__":{"a":1}}""", []), "not a text");
        yield return Case("metadata not an object", Build("""{"__metadata__":1}""", []), "not a JSON object");
        yield return Case("entry not an object", Build("""{"a":1}""", []), "not described");
    }

    [TestCaseSource(nameof(DamagedFiles))]
    public void Load_DamagedFile_SaysWhatIsWrong(byte[] bytes, string message)
    {
        string path = Write(bytes);
        long before = Tensor.TotalCount;
        Assert.That(() => SafetensorsFile.Load(path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message).And.Message.Contains(path));
        Assert.That(Tensor.TotalCount, Is.EqualTo(before));
    }

    [Test]
    public void Save_FailsHalfway_LeavesTheOldFile()
    {
        using var scope = NewDisposeScope();
        string path = PathOf("old.safetensors");
        SafetensorsFile.Save(path, new Dictionary<string, Tensor> { ["a"] = ones(2) });
        byte[] before = File.ReadAllBytes(path);
        Tensor gone = ones(3);
        var tensors = new List<KeyValuePair<string, Tensor>> { new("a", ones(2)), new("a", gone) };
        Assert.That(() => SafetensorsFile.Save(path, tensors), Throws.ArgumentException.With.Message.Contains("'a'"));
        Assert.That(() => SafetensorsFile.Save(path, [new("c", ones(2, dtype: ScalarType.ComplexFloat32))]), Throws.InstanceOf<NotSupportedException>());
        Assert.That(File.ReadAllBytes(path), Is.EqualTo(before));
        Assert.That(Directory.GetFiles(_folder), Has.Length.EqualTo(1));
    }

    [Test]
    public void Save_FolderMissing_Throws()
    {
        using var scope = NewDisposeScope();
        Assert.That(() => SafetensorsFile.Save(PathOf("no/such/file"), [new("a", ones(1))]), Throws.InstanceOf<IOException>());
    }

    private string Write(byte[] bytes)
    {
        string path = PathOf("file.safetensors");
        File.WriteAllBytes(path, bytes);
        return path;
    }

    private static byte[] Build(string header, byte[] data)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        return [.. BitConverter.GetBytes((long)json.Length), .. json, .. data];
    }
}
