namespace MoEKernels;

/// <summary>Memory of a device.</summary>
/// <param name="Free">Bytes that are free now, whoever asks for them; 0 when unknown.</param>
/// <param name="Total">Bytes in all; 0 when unknown.</param>
public readonly record struct DeviceMemory(long Free, long Total);
