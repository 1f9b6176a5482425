using static TorchSharp.torch;

namespace Llama.Tests;

public sealed class TokenBlocksTests
{
    [Test]
    public void Cut_Blocks_HoldsOutEveryTenth()
    {
        TokenBlocks blocks = TokenBlocks.Cut([Enumerable.Range(0, 101).ToArray()], end: null, context: 5);

        Assert.Multiple(() =>
        {
            Assert.That(blocks.Count, Is.EqualTo(101));
            Assert.That(blocks.HeldOut, Is.EqualTo(new[] { 45, 95 }));
            Assert.That(blocks.Training, Has.Count.EqualTo(18));
            Assert.That(blocks.Training.Intersect(blocks.HeldOut), Is.Empty);
        });
        using var scope = NewDisposeScope();
        (Tensor inputs, Tensor targets) = blocks.Batch([95, 0]);
        Assert.That(inputs.data<long>().ToArray(), Is.EqualTo(new long[] { 95, 96, 97, 98, 99, 0, 1, 2, 3, 4 }));
        Assert.That(targets.data<long>().ToArray(), Is.EqualTo(new long[] { 96, 97, 98, 99, 100, 1, 2, 3, 4, 5 }));
    }

    [Test]
    public void Cut_SeveralTexts_EndsEach()
    {
        TokenBlocks blocks = TokenBlocks.Cut([[1, 2], [3]], end: 9, context: 2);

        using var scope = NewDisposeScope();
        Assert.That(blocks.Count, Is.EqualTo(5));
        Assert.That(blocks.Batch([0, 2]).Inputs.data<long>().ToArray(), Is.EqualTo(new long[] { 1, 2, 9, 3 }));
        Assert.That(blocks.HeldOut, Is.EqualTo(new[] { 2 }));
    }

    [Test]
    public void Cut_TooLittleText_SaysHowMuchIsNeeded() =>
        Assert.That(
            Assert.Throws<UserException>(() => TokenBlocks.Cut([TinyModel.Tokens(20)], end: null, context: 10))!.Message,
            Does.Contain("20 tokens").And.Contain("21").And.Contain("--context 10"));

    [Test]
    public void Of_EqualScores_IsTheNumberOfTokens()
    {
        using TemporaryFolder folder = new();
        TinyModel.Write(folder.Path, ModelFamily.Llama);
        using CausalModel model = CheckpointLoader.Load(folder.Path, ScalarType.Float32);
        using (no_grad())
            model.state_dict()["lm_head.weight"].zero_();

        Assert.That(Perplexity.Of(model, TinyModel.Blocks(), batch: 3, CancellationToken.None), Is.EqualTo(512).Within(0.01));
    }

    [Test]
    public void Read_Folder_ReadsTextAndNothingElse()
    {
        using TemporaryFolder folder = new();
        folder.Write("a.txt", "one");
        folder.Write("b/c.md", "two");
        folder.Write("d.bin", "\0");
        folder.Write("empty.txt", "");

        Assert.That(TextSource.Read([folder.Path]), Is.EqualTo(new[] { "one", "two" }));
    }

    [Test]
    public void Read_Nothing_ReadsTheRepository() =>
        Assert.That(TextSource.Read([]), Has.Count.GreaterThan(100).And.Some.Contains("MoEKernels"));

    [Test]
    public void Read_NoText_SaysSo()
    {
        using TemporaryFolder folder = new();
        string path = folder.Write("d.bin", "\0");

        var failure = Assert.Throws<UserException>(() => TextSource.Read([path]));

        Assert.That(failure.Message, Does.Contain("--text"));
    }
}
