namespace MoEKernels;

/// <summary>The backend that suits this machine, and why.</summary>
/// <param name="Device">Kind of device.</param>
/// <param name="Reason">Why this one, and why not a better one.</param>
public sealed record BackendChoice(MoeDeviceType Device, string Reason);
