using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace MoEKernels.TorchSharp;

/// <summary>
/// The entry points of TorchSharp's native library behind its autograd functions. It does not promise to keep them: see
/// <see cref="GraphNode.IsUsable"/>. Errors are fetched with <c>torch.CheckForErrors</c>.
/// </summary>
internal static unsafe partial class NativeNodes
{
    private const string Library = "LibTorchSharp";

    /// <summary>A strong and a weak reference to a node.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Node
    {
        public nint Strong;
        public nint Weak;
    }

    /// <summary>Handles of tensors; 0 for an undefined one.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Handles
    {
        public nint* Items;
        public long Count;
    }

    [LibraryImport(Library)]
    public static partial Node THSAutograd_CSharpNode_ctor(nint apply, nint delete);

    [LibraryImport(Library)]
    public static partial void THSAutograd_CSharpNode_disposeSharedPtr(Node node);

    [LibraryImport(Library)]
    public static partial void THSAutograd_CSharpNode_disposeWeakPtr(Node node);

    [LibraryImport(Library)]
    public static partial void THSAutograd_CSharpNode_setNextEdges(Node node, Handles inputs, byte isExecutable);

    [LibraryImport(Library)]
    public static partial void THSAutograd_CSharpNode_clearInputMetadata(Node node);

    [LibraryImport(Library)]
    public static partial void THSAutograd_Function_wrapOutputs(Handles inputs, Handles nonDifferentiable, Handles dirty, Handles outputs, Node node, nint allocator);

    [LibraryImport(Library)]
    public static partial nint THSAutograd_SavedVariable_ctor(nint tensor, Node node, byte isInPlaceOnView);

    [LibraryImport(Library)]
    public static partial void THSAutograd_SavedVariable_dispose(nint saved);

    [LibraryImport(Library)]
    public static partial nint THSAutograd_SavedVariable_unpack(nint saved, Node savedFor);

    /// <summary>Memory of this thread for handles that native code reads or writes: valid until the thread asks for the next.</summary>
    public static nint* Buffer(int count)
    {
        HandleBuffer buffer = _buffer ??= new HandleBuffer();
        return buffer.Ensure(count);
    }

    /// <summary>What <see cref="THSAutograd_Function_wrapOutputs"/> calls for memory to put the results' handles into.</summary>
    public static nint Allocator => (nint)(delegate* unmanaged[Cdecl]<nint, nint>)&Allocate;

    [ThreadStatic]
    private static HandleBuffer? _buffer;

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint Allocate(nint count)
    {
        try
        {
            return (nint)Buffer((int)count);
        }
        catch (OutOfMemoryException)
        {
            // Nothing may be thrown into native code, which has no way to say it either: it writes at least one handle.
            Environment.FailFast($"No memory for {count} handles.");
            return 0;
        }
    }

    /// <summary>Freed when its thread has ended.</summary>
    private sealed class HandleBuffer
    {
        private nint* _memory;
        private int _capacity;

        ~HandleBuffer() => NativeMemory.Free(_memory);

        public nint* Ensure(int count)
        {
            if (count > _capacity)
            {
                int capacity = int.Max(count, 16);
                _memory = (nint*)NativeMemory.Realloc(_memory, (nuint)capacity * (nuint)sizeof(nint));
                _capacity = capacity;
            }
            return _memory;
        }
    }
}
