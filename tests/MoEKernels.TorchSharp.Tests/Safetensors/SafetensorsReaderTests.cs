using System.Text;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class SafetensorsReaderTests
{
    private string _path = null!;

    [SetUp]
    public void MakePath() => _path = Path.Combine(Directory.CreateTempSubdirectory("reader").FullName, "file.safetensors");

    [TearDown]
    public void RemoveFolder() => Directory.Delete(Path.GetDirectoryName(_path)!, recursive: true);

    [Test]
    public void Open_DescribesWithoutReading_AndReadsOne()
    {
        using var scope = NewDisposeScope();
        Tensor big = randn(64, 32), small = arange(5);
        SafetensorsFile.Save(_path, [new("big", big), new("small", small)], new Dictionary<string, string> { ["k"] = "v" });
        long before = Tensor.TotalCount;
        using var reader = SafetensorsReader.Open(_path);
        Assert.That(Tensor.TotalCount, Is.EqualTo(before));
        Assert.That(reader.Entries.Select(e => e.ToString()), Is.EqualTo(new[] { "small: I64 [5]", "big: F32 [64, 32]" }));
        Assert.That(reader.Metadata["k"], Is.EqualTo("v"));
        Assert.That(reader.Contains("big"), Is.True);
        Assert.That(reader.Describe("big").Shape.ToArray(), Is.EqualTo(new[] { 64L, 32 }));
        TensorAssert.AreEqual(reader.Read("big"), big);
        TensorAssert.AreEqual(reader.Read("small"), small);
        Assert.That(() => reader.Read("none"), Throws.InstanceOf<KeyNotFoundException>().With.Message.Contains("'none'").And.Message.Contains(_path));
    }

    [Test]
    public void Read_OutlivesTheFile()
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Save(_path, [new("a", arange(4))]);
        Tensor tensor;
        using (var reader = SafetensorsReader.Open(_path))
            tensor = reader.Read("a");
        File.Delete(_path);
        TensorAssert.AreEqual(tensor, arange(4));
    }

    [Test]
    public void Read_AfterDispose_Throws()
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Save(_path, [new("a", arange(4))]);
        var reader = SafetensorsReader.Open(_path);
        reader.Dispose();
        Assert.That(() => reader.Read("a"), Throws.InstanceOf<ObjectDisposedException>());
        reader.Dispose();
    }

    [Test]
    public void Read_MisalignedTensor_IsCopiedRight()
    {
        using var scope = NewDisposeScope();
        // One byte of header padding too few for any alignment, then one byte before the doubles.
        Write("""{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"d":{"dtype":"F64","shape":[2],"data_offsets":[1,17]}}""",
            [9, .. BitConverter.GetBytes(1.5), .. BitConverter.GetBytes(-2.5)]);
        using var reader = SafetensorsReader.Open(_path);
        Assert.That(reader.Read("d").data<double>().ToArray(), Is.EqualTo(new[] { 1.5, -2.5 }));
    }

    [Test]
    public void Read_TypeThatTorchSharpLacks_IsNamed_OthersAreRead()
    {
        using var scope = NewDisposeScope();
        Write("""{"f8":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"u8":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}""", [1, 2, 3]);
        using var reader = SafetensorsReader.Open(_path);
        Assert.That(reader.Describe("f8").ScalarType, Is.Null);
        Assert.That(reader.Read("u8").item<byte>(), Is.EqualTo(3));
        Assert.That(() => reader.Read("f8"), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("'f8'").And.Message.Contains("F8_E4M3"));
        long before = Tensor.TotalCount;
        Assert.That(() => reader.ReadAll(), Throws.InstanceOf<NotSupportedException>());
        Assert.That(Tensor.TotalCount, Is.EqualTo(before), "nothing that was read before the failure is left");
    }

    [TestCase("""{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", "'a' has 'dtype' twice")]
    [TestCase("""{"__metadata__":{"k":"1","k":"2"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", "its metadata has 'k' twice")]
    [TestCase("""{"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}}""", "dtype of 'a' is not a text")]
    [TestCase("""{"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}}""", "shape of 'a' is not a list")]
    [TestCase("""{"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}}""", "shape")]
    [TestCase("""{"a":{"dtype":"U8","shape":[0,9223372036854775807,2],"data_offsets":[0,0]}}""", "impossible shape")]
    [TestCase("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}}""", "not JSON")]
    [TestCase("""{"\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", "not Unicode")]
    [TestCase("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} x""", "not JSON")]
    [TestCase("""{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},}""", "not JSON")]
    public void Open_DamagedHeader_SaysWhatIsWrong(string header, string message)
    {
        Write(header, [1]);
        Assert.That(() => SafetensorsReader.Open(_path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message).And.Message.Contains(_path));
        Assert.That(() => File.Delete(_path), Throws.Nothing);
    }

    [Test]
    public void Open_HeaderNotUtf8_Throws()
    {
        byte[] json = Encoding.Latin1.GetBytes("{\"\u00FC\":{}}");
        File.WriteAllBytes(_path, [.. BitConverter.GetBytes((long)json.Length), .. json]);
        Assert.That(() => SafetensorsReader.Open(_path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("not UTF-8"));
    }

    [Test]
    public void Open_TooManyDimensions_Throws()
    {
        Write("{\"a\":{\"dtype\":\"U8\",\"shape\":[" + string.Join(',', Enumerable.Repeat(1, 65)) + "],\"data_offsets\":[0,1]}}", [1]);
        Assert.That(() => SafetensorsReader.Open(_path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("more than 64"));
    }

    [Test]
    public void Open_UnknownFieldOfAnEntry_IsSkipped()
    {
        Write("""{"a":{"dtype":"U8","note":{"x":[1,{}]},"shape":[1],"data_offsets":[0,1]}}""", [1]);
        using var reader = SafetensorsReader.Open(_path);
        Assert.That(reader.Entries, Has.Count.EqualTo(1));
    }

    [Test]
    public void Open_MissingFile_Throws() =>
        Assert.That(() => SafetensorsReader.Open(_path), Throws.InstanceOf<FileNotFoundException>());

    [Test]
    public void SaveAndLoad_Stream_WorksFromItsPosition()
    {
        using var scope = NewDisposeScope();
        using var stream = new MemoryStream();
        stream.Write([1, 2, 3]);
        SafetensorsFile.SaveTo(stream, [new("a", arange(4)), new("b", ones(2, 2).to(ScalarType.Float16))]);
        stream.Position = 3;
        var loaded = SafetensorsFile.Load(stream);
        TensorAssert.AreEqual(loaded["a"], arange(4));
        TensorAssert.AreEqual(loaded["b"], ones(2, 2));
        Assert.That(stream.CanRead, Is.True, "left open");
        foreach (Tensor tensor in loaded.Values)
            tensor.Dispose();
    }

    [Test]
    public void LoadAndSave_StreamOfTheWrongKind_Throws()
    {
        using var compressed = new System.IO.Compression.DeflateStream(new MemoryStream(), System.IO.Compression.CompressionMode.Decompress);
        Assert.That(() => SafetensorsFile.Load(compressed), Throws.ArgumentException.With.Message.Contains("sought"));
        using var readOnly = new MemoryStream([], writable: false);
        Assert.That(() => SafetensorsFile.SaveTo(readOnly, []), Throws.ArgumentException.With.Message.Contains("written"));
    }

    [Test]
    public void Save_NameThatIsNotUnicode_Throws()
    {
        using var scope = NewDisposeScope();
        Assert.That(() => SafetensorsFile.Save(_path, [new("\ud800", ones(1))]), Throws.ArgumentException);
        Assert.That(File.Exists(_path), Is.False);
    }

    private void Write(string header, byte[] data)
    {
        byte[] json = Encoding.UTF8.GetBytes(header);
        File.WriteAllBytes(_path, [.. BitConverter.GetBytes((long)json.Length), .. json, .. data]);
    }
}
