namespace MoEKernels.Tests;

public sealed class ContextTests
{
    [Test]
    public void Default_IsOneCpuContextThatCannotBeDisposedOf()
    {
        MoeContext.Default.Dispose();

        Assert.Multiple(() =>
        {
            Assert.That(MoeContext.Default.Device, Is.EqualTo(MoeDeviceType.Cpu));
            Assert.That(MoeContext.Default.ThreadCount, Is.GreaterThan(0));
            Assert.That(() => Gate.UpdateBias([1], new float[1], 1), Throws.Nothing);
        });
    }

    [Test]
    public void Create_TakesItsOptions()
    {
        using MoeContext context = new(new MoeContextOptions
        {
            ThreadCount = 2,
            InstructionSet = InstructionSet.Scalar
        });

        Assert.Multiple(() =>
        {
            Assert.That(context.Device, Is.EqualTo(MoeDeviceType.Cpu));
            Assert.That(context.DeviceIndex, Is.Zero);
            Assert.That(context.ThreadCount, Is.EqualTo(2));
            Assert.That(context.InstructionSet, Is.EqualTo(InstructionSet.Scalar));
        });
    }

    [Test]
    public void Create_WithoutChoice_TellsTheInstructionSetInUse()
    {
        using MoeContext context = new();

        Assert.That(context.InstructionSet, Is.Not.EqualTo(InstructionSet.Auto));
    }

    [Test]
    public void Create_WrongOption_IsNamed() => Assert.Multiple(() =>
    {
        Assert.That(() => new MoeContext(new MoeContextOptions { Device = (MoeDeviceType)7 }), Wrong("Device", "7"));
        Assert.That(() => new MoeContext(new MoeContextOptions { DeviceIndex = -1 }), Wrong("DeviceIndex", "-1"));
        Assert.That(() => new MoeContext(new MoeContextOptions { DeviceIndex = 1 }),
            Throws.ArgumentException.With.Message.Contains("device_index"));
        Assert.That(() => new MoeContext(new MoeContextOptions { ThreadCount = -2 }), Wrong("ThreadCount", "-2"));
        Assert.That(() => new MoeContext(new MoeContextOptions { InstructionSet = (InstructionSet)99 }),
            Wrong("InstructionSet", "99"));

        static NUnit.Framework.Constraints.IResolveConstraint Wrong(string member, string got) =>
            Throws.InstanceOf<ArgumentException>().With.Message.Contains(member).And.Message.Contains($"got {got}");
    });

    [Test]
    public void Create_InstructionSetOfAnotherProcessor_IsRefused()
    {
        InstructionSet foreign = System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture
            == System.Runtime.InteropServices.Architecture.Arm64 ? InstructionSet.Avx2 : InstructionSet.Neon;

        Assert.That(() => new MoeContext(new MoeContextOptions { InstructionSet = foreign }),
            Throws.InstanceOf<Exception>().With.Message.Contains("isa").Or.With.Message.Contains("NEON").IgnoreCase);
    }

    [Test]
    public void Dispose_Twice_DoesNothing()
    {
        MoeContext context = new(new MoeContextOptions { ThreadCount = 1 });
        context.Dispose();

        Assert.That(context.Dispose, Throws.Nothing);
    }

    [Test]
    public void AfterDispose_EveryCallThrows()
    {
        MoeContext context = new(new MoeContextOptions { ThreadCount = 1 });
        context.Dispose();
        GateShape shape = new(1, 1, 1);

        Assert.Multiple(() =>
        {
            Assert.That(() => Gate.Forward(shape, default, new float[1], new int[1], new float[1], context: context),
                Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => Gate.ForwardWorkspace(context, new GateArgs { Shape = shape }),
                Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => RankLora.ForwardWorkspace(context, default),
                Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => CoreMerge.ForwardWorkspace(context, default),
                Throws.InstanceOf<ObjectDisposedException>());
            Assert.That(() => Dropout.Mask(new float[1], 1, 1, 0.5, 1, context: context),
                Throws.InstanceOf<ObjectDisposedException>());
            // What it was can still be read.
            Assert.That(context.ThreadCount, Is.EqualTo(1));
        });
    }

    [Test]
    public void Results_DoNotDependOnTheThreadCount()
    {
        const int Tokens = 1000, Experts = 37, Kept = 5;
        GateShape shape = new(Tokens, Experts, Kept);
        float[] logits = TestData.To<float>(TestData.Uniform(1, Tokens * Experts));
        (int[] Ids, float[] Weights)? first = null;
        foreach (int threads in (int[])[1, 2, 3, 8])
        {
            using MoeContext context = new(new MoeContextOptions { ThreadCount = threads });
            int[] ids = new int[Tokens * Kept];
            float[] weights = new float[Tokens * Kept];
            Gate.Forward(shape, default, logits, ids, weights, context: context);
            first ??= (ids, weights);
            Assert.That(ids, Is.EqualTo(first.Value.Ids), $"ids with {threads} threads");
            Assert.That(weights, Is.EqualTo(first.Value.Weights), $"weights with {threads} threads");
        }
    }

    [Test]
    public void OneContext_FourThreads_EachGetsItsOwnResult()
    {
        const int Tokens = 64, Experts = 16, Kept = 4, Rounds = 200;
        GateShape shape = new(Tokens, Experts, Kept);
        using MoeContext context = new(new MoeContextOptions { ThreadCount = 2 });
        Exception?[] failures = new Exception?[4];
        Thread[] threads = [.. Enumerable.Range(0, failures.Length).Select(index => new Thread(() =>
        {
            try
            {
                float[] logits = TestData.To<float>(TestData.Uniform(index, Tokens * Experts));
                int[] expectedIds = new int[Tokens * Kept];
                float[] expected = new float[Tokens * Kept];
                Gate.Forward(shape, default, logits, expectedIds, expected);
                for (int round = 0; round < Rounds; round++)
                {
                    int[] ids = new int[Tokens * Kept];
                    float[] weights = new float[Tokens * Kept];
                    Gate.Forward(shape, default, logits, ids, weights, context: context);
                    if (!ids.AsSpan().SequenceEqual(expectedIds) || !weights.AsSpan().SequenceEqual(expected))
                        throw new InvalidOperationException($"round {round} of thread {index} differs");
                    // Failures are per thread as well: the text must be this thread's.
                    string message = Assert.Catch(() =>
                        Gate.Forward(context, new GateArgs { Shape = shape with { K = Experts + 1 + index } }, 0, 0,
                        0))!.Message;
                    if (!message.Contains($"got {Experts + 1 + index}", StringComparison.Ordinal))
                        throw new InvalidOperationException($"thread {index} got another thread's error: {message}");
                }
            }
            catch (Exception failure)
            {
                failures[index] = failure;
            }
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            Assert.That(thread.Join(60_000), "a thread hangs");
        Assert.That(failures, Is.All.Null);
    }

    [Test]
    public void Dispose_WhileACallRuns_WaitsForIt()
    {
        for (int round = 0; round < 50; round++)
        {
            MoeContext context = new(new MoeContextOptions { ThreadCount = 2 });
            float[] logits = TestData.To<float>(TestData.Uniform(round, 256 * 64));
            using ManualResetEventSlim started = new();
            Exception? failure = null;
            Thread caller = new(() =>
            {
                try
                {
                    started.Set();
                    for (int i = 0; i < 100; i++)
                    {
                        Gate.Forward(new GateShape(256, 64, 4), default, logits, new int[1024], new float[1024],
                            context: context);
                    }
                }
                catch (ObjectDisposedException)
                {
                    // The other legal outcome: the context was gone before the next call began.
                }
                catch (Exception other)
                {
                    failure = other;
                }
            });
            caller.Start();
            started.Wait();
            context.Dispose();
            Assert.That(caller.Join(60_000), "the caller hangs");
            Assert.That(failure, Is.Null);
        }
    }

    [Test]
    public void ForgottenContexts_AreFreedByTheirFinaliser()
    {
        // Threads of forgotten contexts would pile up until the system has no more.
        for (int i = 0; i < 300; i++)
        {
            Forget();
            if (i % 50 == 49)
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        }
        using System.Diagnostics.Process self = System.Diagnostics.Process.GetCurrentProcess();
        Assert.That(self.Threads, Has.Count.LessThan(400));

        static void Forget() => _ = new MoeContext(new MoeContextOptions { ThreadCount = 4 });
    }
}
