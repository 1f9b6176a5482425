using MoEKernels.TorchSharp;
using static TorchSharp.torch;

namespace MoEKernels.Benchmarks;

/// <summary>
/// The process's threads. This library borrows libtorch's, as its modules do; a comparison is only fair when both have the same number.
/// </summary>
internal static class Session
{
    private static MoeContext? _context;

    public static int Threads { get; private set; }

    /// <summary>The context of every call, from the autograd functions as on raw addresses.</summary>
    public static MoeContext Context => _context ?? throw new InvalidOperationException("The session was not started.");

    /// <summary>Begins, or begins anew with another number of threads: nothing made before may be used any more.</summary>
    public static void Start(int threads)
    {
        _context?.Dispose();
        set_num_threads(threads);
        _context = new MoeContext(new MoeContextOptions { ThreadCount = threads, ParallelFunction = TorchThreads.ParallelFunction });
        MoeFunctional.CpuContext = _context;
        Threads = threads;
    }
}
