using System.Runtime.InteropServices;

using Microsoft.Win32.SafeHandles;

namespace MoEKernels.TorchSharp.Loading;

/// <summary>Loads a shared library from memory on Linux, leaving no file behind.</summary>
internal static partial class MemoryFile
{
    private const uint CloseOnExec = 1;

    /// <summary>
    /// Loads <paramref name="image"/>: from an anonymous memory file, or, where the kernel does not allow code from one,
    /// from a temporary file that is deleted at once.
    /// </summary>
    /// <returns>How it was loaded, for the load trace.</returns>
    /// <exception cref="DllNotFoundException">The loader refused the image.</exception>
    public static string Load(byte[] image, string name)
    {
        string refusal;
        using (SafeFileHandle file = new(CreateMemoryFile(name, CloseOnExec), ownsHandle: true))
        {
            if (!file.IsInvalid)
            {
                RandomAccess.Write(file, image, 0);
                try
                {
                    NativeLibrary.Load($"/proc/self/fd/{file.DangerousGetHandle()}");
                    return "from an anonymous memory file";
                }
                catch (DllNotFoundException exception)
                {
                    refusal = exception.Message;
                }
            }
            else
            {
                refusal = $"memfd_create failed with error {Marshal.GetLastPInvokeError()}";
            }
        }

        string path = Path.Combine(Path.GetTempPath(), $"{Path.GetRandomFileName()}.{name}");
        try
        {
            File.WriteAllBytes(path, image);
            NativeLibrary.Load(path);
            return $"from a temporary file, deleted again (memory file: {refusal})";
        }
        finally
        {
            File.Delete(path);
        }
    }

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial nint CreateMemoryFile(string name, uint flags);
}
