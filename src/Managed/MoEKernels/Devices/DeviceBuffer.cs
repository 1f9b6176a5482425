using System.Globalization;
using MoEKernels.Interop;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>
/// Memory of a context's device: a GPU's, or on a CPU context the host's. Raw ops take its <see cref="Address"/>.
/// </summary>
/// <typeparam name="T">Element type, such as <see cref="float"/>, <see cref="BFloat16"/> or <see cref="int"/>.</typeparam>
/// <remarks>
/// An address does not keep its buffer alive: hold the buffer (<c>using</c>) until the work that uses it has been queued.
/// Disposing of it waits until the device is done with it. It frees the memory when it is forgotten, too, but nobody
/// knows when; the context lives on until then.
/// </remarks>
public sealed unsafe class DeviceBuffer<T> : IDisposable
    where T : unmanaged
{
    private readonly DeviceMemoryHandle _handle;

    /// <summary>Allocates memory; its contents are undefined.</summary>
    /// <param name="context">The context on whose device it lies.</param>
    /// <param name="length">Elements, at least 0.</param>
    /// <exception cref="ArgumentOutOfRangeException">The length is negative or beyond any address space.</exception>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    /// <exception cref="MoeException">
    /// There is no such block left (<see cref="MoeStatus.OutOfMemory"/>), or the device failed.
    /// </exception>
    public DeviceBuffer(MoeContext context, long length)
    {
        ArgumentNullException.ThrowIfNull(context);
        Require.Dimension(length, 0, nint.MaxValue / sizeof(T), nameof(length), nameof(length));
        Context = context;
        Length = length;
        _handle = DeviceMemoryHandle.Allocate(context.Handle, (ulong)length * (ulong)sizeof(T));
    }

    /// <summary>Allocates memory and copies elements into it.</summary>
    /// <param name="context">The context on whose device it lies.</param>
    /// <param name="content">What it shall hold; its length becomes the buffer's.</param>
    /// <exception cref="ObjectDisposedException">The context was disposed of.</exception>
    /// <exception cref="MoeException">
    /// There is no such block left (<see cref="MoeStatus.OutOfMemory"/>), or the device failed.
    /// </exception>
    public DeviceBuffer(MoeContext context, ReadOnlySpan<T> content)
        : this(context, content.Length)
    {
        try
        {
            CopyFrom(content);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The context on whose device it lies.</summary>
    public MoeContext Context { get; }

    /// <summary>Elements.</summary>
    public long Length { get; }

    /// <summary>Bytes.</summary>
    public long ByteLength => Length * sizeof(T);

    /// <summary>Address on the device, aligned to 64 bytes or more; 0 without elements.</summary>
    /// <exception cref="ObjectDisposedException">The buffer was disposed of.</exception>
    public nint Address
    {
        get
        {
            ObjectDisposedException.ThrowIf(_handle.IsClosed, this);
            return (nint)_handle.Pointer;
        }
    }

    /// <summary>
    /// Copies elements into the buffer, after the stream's earlier work; when this returns they are there.
    /// </summary>
    /// <param name="source">The elements.</param>
    /// <param name="start">Where they go.</param>
    /// <param name="stream">A stream of the same device; null: the default stream.</param>
    /// <exception cref="ArgumentException">
    /// They do not fit, or the stream belongs to another device or is being captured.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The buffer or the stream was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public void CopyFrom(ReadOnlySpan<T> source, long start = 0, CudaStream? stream = null)
    {
        CheckRange(start, source.Length, nameof(source));
        fixed (T* pointer = source)
        {
            using ChildLease memory = new(_handle);
            Copy(memory, At(memory, start), pointer, source.Length, CopyKind.HostToDevice, stream);
        }
    }

    /// <summary>Copies elements out of the buffer, after the stream's earlier work.</summary>
    /// <param name="destination">Where they go; its length says how many.</param>
    /// <param name="start">The first one.</param>
    /// <param name="stream">A stream of the same device; null: the default stream.</param>
    /// <exception cref="ArgumentException">
    /// There are not as many, or the stream belongs to another device or is being captured.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The buffer or the stream was disposed of.</exception>
    /// <exception cref="MoeException">The device failed, possibly in the earlier work.</exception>
    public void CopyTo(Span<T> destination, long start = 0, CudaStream? stream = null)
    {
        CheckRange(start, destination.Length, nameof(destination));
        fixed (T* pointer = destination)
        {
            using ChildLease memory = new(_handle);
            Copy(memory, pointer, At(memory, start), destination.Length, CopyKind.DeviceToHost, stream);
        }
    }

    /// <summary>
    /// Copies all elements into another buffer of the same device. The copy is queued on the stream, and may be captured.
    /// </summary>
    /// <param name="destination">A buffer of at least this length.</param>
    /// <param name="start">Where in it they go.</param>
    /// <param name="stream">A stream of the same device; null: the default stream.</param>
    /// <exception cref="ArgumentException">
    /// They do not fit, or the destination is this buffer, or something belongs to another device.
    /// </exception>
    /// <exception cref="ObjectDisposedException">A buffer or the stream was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public void CopyToDevice(DeviceBuffer<T> destination, long start = 0, CudaStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(destination);
        Require.SameDevice(destination.Context, Context, nameof(destination));
        destination.CheckRange(start, Length, nameof(destination));
        using ChildLease memory = new(_handle);
        using ChildLease other = new(destination._handle);
        Copy(memory, At(other, start), memory.Pointer, Length, CopyKind.DeviceToDevice, stream);
    }

    /// <summary>All elements, after the stream's earlier work.</summary>
    /// <param name="stream">A stream of the same device; null: the default stream.</param>
    /// <exception cref="ArgumentException">The stream belongs to another device or is being captured.</exception>
    /// <exception cref="OverflowException">There are more than an array can hold.</exception>
    /// <exception cref="ObjectDisposedException">The buffer or the stream was disposed of.</exception>
    /// <exception cref="MoeException">The device failed, possibly in the earlier work.</exception>
    public T[] ToArray(CudaStream? stream = null)
    {
        T[] elements = new T[Length];
        CopyTo(elements, 0, stream);
        return elements;
    }

    /// <summary>Sets every byte to 0. That is queued on the stream, and may be captured.</summary>
    /// <param name="stream">A stream of the same device; null: the default stream.</param>
    /// <exception cref="ArgumentException">The stream belongs to another device.</exception>
    /// <exception cref="ObjectDisposedException">The buffer or the stream was disposed of.</exception>
    /// <exception cref="MoeException">The device failed.</exception>
    public void Clear(CudaStream? stream = null)
    {
        CheckStream(stream);
        using ChildLease memory = new(_handle);
        using ChildLease queue = new(stream?.Child);
        NativeError.ThrowIfFailed(
            NativeMethods.MemorySet(memory.Context, memory.Pointer, 0, (ulong)ByteLength, queue.Pointer));
    }

    /// <summary>Frees the memory once no call uses it. A second call does nothing.</summary>
    public void Dispose() => _handle.Dispose();

    private static T* At(in ChildLease memory, long start) => (T*)memory.Pointer + start;

    private void Copy(
        in ChildLease memory, void* destination, void* source, long count, CopyKind kind, CudaStream? stream)
    {
        CheckStream(stream);
        using ChildLease queue = new(stream?.Child);
        NativeError.ThrowIfFailed(NativeMethods.MemoryCopy(
            memory.Context, destination, source, (ulong)count * (ulong)sizeof(T), (int)kind, queue.Pointer));
    }

    private void CheckStream(CudaStream? stream)
    {
        if (stream is not null)
            Require.SameDevice(stream.Context, Context, nameof(stream));
    }

    private void CheckRange(long start, long count, string argument)
    {
        if (start < 0 || start > Length)
        {
            throw new ArgumentOutOfRangeException(
                nameof(start),
                string.Create(CultureInfo.InvariantCulture, $"start: got {start}, expected 0 to {Length}."));
        }
        if (count > Length - start)
        {
            throw new ArgumentException(
                $"{argument}: got {count} elements, expected at most {Length - start} from element {start} on.",
                argument);
        }
    }
}
