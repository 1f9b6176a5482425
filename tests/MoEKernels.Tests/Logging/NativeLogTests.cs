using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Extensions.Logging;
using MoEKernels.Logging;

namespace MoEKernels.Tests;

public sealed unsafe class NativeLogTests
{
    [Test]
    public void ContextCreation_IsLoggedWithItsSource()
    {
        RecordingLogger logger = new();
        using MoeContext context = new(new MoeContextOptions
        {
            ThreadCount = 1,
            Logger = logger,
            MinimumLogLevel = LogLevel.Debug
        });

        Assert.Multiple(() =>
        {
            Assert.That(context.Logger, Is.SameAs(logger));
            Assert.That(logger.Entries, Has.Some.Matches<Entry>(entry =>
                entry!.Id == 4 && entry.Level == LogLevel.Debug && entry.Text.Contains("1 threads")));
            // Event 100 and up come through the callback from the native side.
            Assert.That(logger.Entries, Has.Some.Matches<Entry>(entry => entry!.Id == 100 && entry.Text.Length > 0));
        });
    }

    [Test]
    public void NativeThreshold_KeepsLessSevereMessagesAway()
    {
        RecordingLogger logger = new();
        using MoeContext context = new(new MoeContextOptions
        {
            ThreadCount = 1,
            Logger = logger,
            MinimumLogLevel = LogLevel.Error
        });

        Assert.That(logger.Entries, Has.None.Matches<Entry>(entry => entry!.Id == 100));
    }

    [TestCase(0, LogLevel.Trace)]
    [TestCase(1, LogLevel.Debug)]
    [TestCase(2, LogLevel.Information)]
    [TestCase(3, LogLevel.Warning)]
    [TestCase(4, LogLevel.Error)]
    [TestCase(77, LogLevel.Error)]
    public void Message_ArrivesWithItsLevelAndText(int nativeLevel, LogLevel level)
    {
        RecordingLogger logger = new();

        Send(new NativeLog { Logger = logger }, nativeLevel, "Grüße, 世界");

        Assert.That(logger.Entries, Is.EqualTo(new[] { new Entry(100, level, "Grüße, 世界") }));
    }

    [Test]
    public void Levels_RoundTrip() => Assert.Multiple(() =>
    {
        foreach (LogLevel level in (LogLevel[])[LogLevel.Trace, LogLevel.Debug, LogLevel.Information, LogLevel.Warning,
            LogLevel.Error])
        {
            Assert.That(LogLevels.FromNative((int)LogLevels.ToNative(level)), Is.EqualTo(level));
        }

        Assert.That(LogLevels.ToNative(LogLevel.None), Is.EqualTo(MoEKernels.Native.LogLevel.Error));
    });

    [Test]
    public void Logger_CanBeExchanged()
    {
        RecordingLogger first = new(), second = new();
        NativeLog log = new() { Logger = first };

        Send(log, 2, "one");
        log.Logger = second;
        Send(log, 2, "two");

        Assert.Multiple(() =>
        {
            Assert.That(first.Entries.Select(entry => entry.Text), Is.EqualTo(new[] { "one" }));
            Assert.That(second.Entries.Select(entry => entry.Text), Is.EqualTo(new[] { "two" }));
        });
    }

    [Test]
    [NonParallelizable]
    public void WithoutItsOwnLogger_TheRuntimesIsUsed()
    {
        RecordingLogger logger = new();
        ILogger before = MoeRuntime.Logger;
        try
        {
            MoeRuntime.Logger = logger;
            Send(new NativeLog(), 3, "for all");
            using MoeContext context = new(new MoeContextOptions { ThreadCount = 1 });
            Assert.That(context.Logger, Is.SameAs(logger));
        }
        finally
        {
            MoeRuntime.Logger = before;
        }
        Assert.That(logger.Entries, Has.Member(new Entry(100, LogLevel.Warning, "for all")));
    }

    [Test]
    public void LoggerThatThrows_DoesNoHarm()
    {
        ThrowingLogger logger = new();
        Send(new NativeLog { Logger = logger }, 2, "boom");

        Assert.That(logger.Calls, Is.EqualTo(1));
    }

    [Test]
    public void LoggerThatThrows_DoesNotKeepAContextFromBeingCreated()
    {
        ThrowingLogger logger = new();
        using MoeContext context = new(new MoeContextOptions
        {
            ThreadCount = 1,
            Logger = logger,
            MinimumLogLevel = LogLevel.Trace,
        });

        Assert.That(logger.Calls, Is.GreaterThan(0));
    }

    [Test]
    public void CallbackWithoutATarget_DoesNoHarm()
    {
        RecordingLogger logger = new();
        Send(new NativeLog { Logger = logger }, 2, "with a target");
        byte message = 0;

        // An exception would end the process, and nobody else's log may get the message.
        NativeLog.Callback(2, &message, 0, null);

        Assert.That(logger.Entries, Has.Count.EqualTo(1));
    }

    private static void Send(NativeLog log, int level, string text)
    {
        GCHandle handle = GCHandle.Alloc(log);
        try
        {
            byte[] message = Encoding.UTF8.GetBytes(text + '\0');
            fixed (byte* pointer = message)
                NativeLog.Callback(level, pointer, (ulong)message.Length - 1, (void*)GCHandle.ToIntPtr(handle));
        }
        finally
        {
            handle.Free();
        }
    }

    private sealed record Entry(int Id, LogLevel Level, string Text);

    private sealed class RecordingLogger : ILogger
    {
        internal ConcurrentQueue<Entry> Entries { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter) =>
            Entries.Enqueue(new Entry(eventId.Id, logLevel, formatter(state, exception)));
    }

    private sealed class ThrowingLogger : ILogger
    {
        internal int Calls { get; private set; }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter)
        {
            Calls++;
            throw new InvalidOperationException("a logger out of order");
        }
    }
}
