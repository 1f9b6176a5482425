using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace MoEKernels.TorchSharp;

/// <summary>
/// Scratch memory of a call. On the CPU a thread keeps a block of moderate size for its next call: a new one each time would go back to the system and
/// come as cold pages, which small calls feel. Else it is a tensor, from libtorch's allocator.
/// </summary>
internal readonly unsafe ref struct CallWorkspace
{
    /// <summary>Most bytes that a thread keeps.</summary>
    public const long MostKept = 8 << 20;

    [ThreadStatic]
    private static KeptBlock? _kept;

    private readonly KeptBlock? _block;
    private readonly Tensor? _tensor;

    public CallWorkspace(long bytes, Tensor like)
    {
        if (bytes == 0)
            return;
        if (bytes <= MostKept && like.device_type == global::TorchSharp.DeviceType.CPU)
        {
            // Taken while in use: a callback of the call may come back here.
            _block = _kept ?? new KeptBlock();
            _kept = null;
            Address = _block.Ensure(bytes);
        }
        else
        {
            _tensor = empty(bytes, dtype: ScalarType.Byte, device: like.device);
            Address = OpTensors.Address(_tensor);
        }
    }

    /// <summary>The first byte; 0 for none.</summary>
    public nint Address { get; }

    public void Dispose()
    {
        _tensor?.Dispose();
        if (_block is not null)
            _kept = _block;
    }

    /// <summary>Freed when its thread has ended.</summary>
    private sealed class KeptBlock
    {
        private const int Alignment = 64;

        private void* _memory;
        private long _bytes;

        ~KeptBlock() => NativeMemory.AlignedFree(_memory);

        public nint Ensure(long bytes)
        {
            if (bytes > _bytes)
            {
                NativeMemory.AlignedFree(_memory);
                _bytes = 0;
                _memory = null;
                // In steps, so that calls of slightly different sizes share it.
                long size = (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)bytes);
                _memory = NativeMemory.AlignedAlloc((nuint)size, Alignment);
                _bytes = size;
            }
            return (nint)_memory;
        }
    }
}
