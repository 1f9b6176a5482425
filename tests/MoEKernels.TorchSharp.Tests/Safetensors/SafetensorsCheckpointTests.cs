using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class SafetensorsCheckpointTests
{
    private string _folder = null!;

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("checkpoint").FullName;

    [TearDown]
    public void RemoveFolder() => Directory.Delete(_folder, recursive: true);

    private static Dictionary<string, Tensor> SomeTensors() => Enumerable.Range(0, 5).ToDictionary(i => $"layers.{i}.weight", i => full(10, (float)i));

    [Test]
    public void SaveAndOpen_OneFile()
    {
        using var scope = NewDisposeScope();
        SafetensorsCheckpoint.Save(_folder, SomeTensors());
        Assert.That(Directory.GetFiles(_folder).Select(Path.GetFileName), Is.EqualTo(new[] { "model.safetensors" }));
        using var checkpoint = SafetensorsCheckpoint.Open(_folder);
        Assert.That(checkpoint.Names, Has.Count.EqualTo(5));
        TensorAssert.AreEqual(checkpoint.Read("layers.3.weight"), full(10, 3f));
    }

    [Test]
    public void SaveAndOpen_Shards_FollowTheLimit()
    {
        using var scope = NewDisposeScope();
        SafetensorsCheckpoint.Save(_folder, SomeTensors(), maxFileBytes: 80);
        Assert.That(Directory.GetFiles(_folder).Select(Path.GetFileName).Order(StringComparer.Ordinal), Is.EqualTo(new[]
        {
            "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", "model.safetensors.index.json",
        }));
        using (var checkpoint = SafetensorsCheckpoint.Open(_folder))
        {
            Assert.That(checkpoint.Files, Has.Count.EqualTo(3));
            Assert.That(checkpoint.Contains("layers.4.weight"), Is.True);
            Assert.That(checkpoint.Describe("layers.4.weight").Shape.ToArray(), Is.EqualTo(new[] { 10L }));
            foreach ((string name, Tensor expected) in SomeTensors())
                TensorAssert.AreEqual(checkpoint.Read(name), expected, name);
            Assert.That(() => checkpoint.Read("none"), Throws.InstanceOf<KeyNotFoundException>());
        }
        using var index = System.Text.Json.JsonDocument.Parse(File.ReadAllText(Path.Combine(_folder, "model.safetensors.index.json")));
        Assert.That(index.RootElement.GetProperty("metadata").GetProperty("total_size").GetInt64(), Is.EqualTo(200));

        // A later, smaller save leaves nothing of the earlier one.
        SafetensorsCheckpoint.Save(_folder, SomeTensors());
        Assert.That(Directory.GetFiles(_folder).Select(Path.GetFileName), Is.EqualTo(new[] { "model.safetensors" }));
    }

    [Test]
    public void Open_Nothing_NamesBothFiles() =>
        Assert.That(() => SafetensorsCheckpoint.Open(_folder), Throws.InstanceOf<FileNotFoundException>().With.Message.Contains("model.safetensors").And.Message.Contains("index.json"));

    [Test]
    public void Open_ShardMissingOrWithoutTheTensor_Throws()
    {
        using var scope = NewDisposeScope();
        SafetensorsCheckpoint.Save(_folder, SomeTensors(), maxFileBytes: 80);
        string shard = Path.Combine(_folder, "model-00002-of-00003.safetensors");
        SafetensorsFile.Save(shard, [new("other", ones(1))]);
        Assert.That(() => SafetensorsCheckpoint.Open(_folder), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("layers.2.weight").And.Message.Contains("00002"));
        File.Delete(shard);
        Assert.That(() => SafetensorsCheckpoint.Open(_folder), Throws.InstanceOf<FileNotFoundException>().With.Message.Contains("model-00002-of-00003"));
    }

    [TestCase("", "not JSON")]
    [TestCase("[]", "no weight_map")]
    [TestCase("""{"weight_map":[]}""", "no weight_map")]
    [TestCase("""{"weight_map":{"a":1}}""", "names 1 for 'a'")]
    [TestCase("""{"weight_map":{"a":"../secret.safetensors"}}""", "same folder")]
    [TestCase("""{"weight_map":{"a":"/etc/passwd"}}""", "same folder")]
    [TestCase("""{"weight_map":{"a":".."}}""", "same folder")]
    [TestCase("""{"weight_map":{"a":"c:\\x"}}""", "same folder")]
    [TestCase("""{"weight_map":{"a":""}}""", "same folder")]
    [TestCase("""{"weight_map":{"\ud800":"x"}}""", "not JSON")]
    public void Open_DamagedIndex_SaysWhatIsWrong(string index, string message)
    {
        string path = Path.Combine(_folder, "model.safetensors.index.json");
        File.WriteAllText(path, index);
        Assert.That(() => SafetensorsCheckpoint.Open(_folder), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message).And.Message.Contains(path));
    }

    [Test]
    public void Open_TensorTwiceInTheIndex_Throws()
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Save(Path.Combine(_folder, "x"), [new("a", ones(1))]);
        File.WriteAllText(Path.Combine(_folder, "model.safetensors.index.json"), """{"weight_map":{"a":"x","a":"x"}}""");
        Assert.That(() => SafetensorsCheckpoint.Open(_folder), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("twice"));
    }

    [Test]
    public void Save_BadArguments_Throw()
    {
        using var scope = NewDisposeScope();
        Assert.That(() => SafetensorsCheckpoint.Save(_folder, [new("a", ones(1)), new("a", ones(1))]), Throws.ArgumentException.With.Message.Contains("'a'"));
        Assert.That(() => SafetensorsCheckpoint.Save(_folder, [], maxFileBytes: 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }
}
