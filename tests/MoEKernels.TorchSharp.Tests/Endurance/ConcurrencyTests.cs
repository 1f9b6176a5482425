using static TorchSharp.torch;

namespace MoEKernels.TorchSharp.Tests;

public sealed class ConcurrencyTests
{
    [Test]
    public void FourThreads_SameModule_GiveTheBitsOfOneThread()
    {
        using var scope = NewDisposeScope();
        using var smora = new SMoRALinear(nn.Linear(24, 16), new SMoRAConfig { Rank = 8, ActiveRanks = 3 });
        using var comol = new CoMoLLinear(nn.Linear(24, 16), new CoMoLConfig { Rank = 4, Experts = 3, Dropout = 0, CoreDropout = 0 });
        using (no_grad())
        {
            foreach (Tensor parameter in smora.parameters().Concat(comol.parameters()))
                nn.init.normal_(parameter, 0, 0.3);
        }
        Tensor[] inputs = [.. Enumerable.Range(0, 4).Select(_ => randn(40, 24))];

        (float[] Output, float[] Gradient) Run(int which)
        {
            using var inner = NewDisposeScope();
            Tensor x = inputs[which].detach().clone().requires_grad_();
            Tensor y = comol.call(smora.call(x).matmul(eye(16, 24)));
            y.sum().backward();
            return (y.data<float>().ToArray(), x.grad!.data<float>().ToArray());
        }

        var expected = Enumerable.Range(0, 4).Select(Run).ToArray();
        int[] before = smora.GetLoadCounts();
        var failures = new System.Collections.Concurrent.ConcurrentBag<string>();
        Thread[] threads = [.. Enumerable.Range(0, 4).Select(which => new Thread(() =>
        {
            try
            {
                for (int i = 0; i < 100; i++)
                {
                    (float[] output, float[] gradient) = Run(which);
                    if (!output.AsSpan().SequenceEqual(expected[which].Output) || !gradient.AsSpan().SequenceEqual(expected[which].Gradient))
                        failures.Add($"thread {which}, step {i}: other bits");
                }
            }
            catch (Exception e)
            {
                failures.Add(e.ToString());
            }
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            thread.Join();
        MoeFunctional.ThrowPendingBackwardError();
        Assert.That(failures, Is.Empty);
        Assert.That(smora.GetLoadCounts().Sum() - before.Sum(), Is.EqualTo(400 * 40 * 3), "no count is lost");
    }

    [Test]
    public void LibtorchsThreads_AreFoundOnLinux_AndChangeNoBit()
    {
        using var scope = NewDisposeScope();
        Assert.That(TorchThreads.ParallelFunction != 0, Is.EqualTo(OperatingSystem.IsLinux()), "libtorch for Linux brings GNU's OpenMP library");
        if (TorchThreads.ParallelFunction == 0)
            return;
        manual_seed(4);
        Tensor x = randn(300, 64), a = randn(32, 64), b = randn(48, 32), router = randn(32, 64), dy = randn(300, 48);
        float[][] Run(nint parallel)
        {
            using var context = new MoeContext(new MoeContextOptions { ThreadCount = 3, ParallelFunction = parallel });
            MoeFunctional.CpuContext = context;
            try
            {
                Tensor[] inputs = [.. new[] { x, a, b, router }.Select(tensor => tensor.detach().clone().requires_grad_())];
                Tensor y = MoeFunctional.RankLora(inputs[0], inputs[1], inputs[2], inputs[3], 4, RankLoraOptions.Smora(8, 4), zeros(32)).Output;
                y.backward([dy]);
                MoeFunctional.ThrowPendingBackwardError();
                return [y.data<float>().ToArray(), .. inputs.Select(tensor => tensor.grad!.data<float>().ToArray())];
            }
            finally
            {
                MoeFunctional.CpuContext = null;
            }
        }
        Assert.That(Run(TorchThreads.ParallelFunction), Is.EqualTo(Run(0)));
    }

    [Test]
    public void ThreadCount_FollowsTorch_AndChangesNoBit()
    {
        using var scope = NewDisposeScope();
        int before = get_num_threads();
        try
        {
            manual_seed(2);
            Tensor x = randn(200, 48), a = randn(16, 48), b = randn(40, 16), router = randn(16, 48);
            float[] Run(int threads)
            {
                set_num_threads(threads);
                return MoeFunctional.RankLora(x, a, b, router, 4, RankLoraOptions.Smora(8, 4), zeros(16)).Output.data<float>().ToArray();
            }
            Assert.That(Run(2), Is.EqualTo(Run(1)));
            using var context = new MoeContext(new MoeContextOptions { ThreadCount = 3 });
            MoeFunctional.CpuContext = context;
            Assert.That(MoeContexts.For(x), Is.SameAs(context));
            MoeFunctional.CpuContext = null;
            Assert.That(MoeContexts.For(x).ThreadCount, Is.EqualTo(1));
        }
        finally
        {
            MoeFunctional.CpuContext = null;
            set_num_threads(before);
        }
    }
}
