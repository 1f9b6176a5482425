namespace MoEKernels;

/// <summary>Kind of device a context runs on.</summary>
public enum MoeDeviceType
{
    /// <summary>The host's processor.</summary>
    Cpu = 0,

    /// <summary>An NVIDIA GPU, through the native library <c>moekernels_cuda</c>.</summary>
    Cuda = 1,
}
