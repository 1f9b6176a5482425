using System.Text;
using MoEKernels.Native;

namespace MoEKernels;

/// <summary>A device that a <see cref="MoeContext"/> can run on.</summary>
/// <param name="Type">Kind of device.</param>
/// <param name="Index">Which device of that kind, from 0.</param>
/// <param name="Name">What the maker calls it.</param>
/// <param name="CoreCount">Logical processors, or streaming multiprocessors.</param>
/// <param name="CapabilityMajor">CUDA compute capability; 0 on the CPU.</param>
/// <param name="CapabilityMinor">CUDA compute capability; 0 on the CPU.</param>
/// <param name="TotalMemory">Bytes; 0 when unknown.</param>
public sealed record MoeDevice(
    MoeDeviceType Type, int Index, string Name, int CoreCount, int CapabilityMajor, int CapabilityMinor,
    ulong TotalMemory)
{
    internal static MoeDevice From(in DeviceInfo info)
    {
        ReadOnlySpan<byte> name = info.Name;
        int end = name.IndexOf((byte)0);
        return new MoeDevice(
            (MoeDeviceType)info.DeviceType, info.DeviceIndex, Encoding.UTF8.GetString(end < 0 ? name : name[..end]),
            info.CoreCount, info.CapabilityMajor, info.CapabilityMinor, info.TotalMemory);
    }
}
