namespace MoEKernels;

/// <summary>Result of a native call.</summary>
public enum MoeStatus
{
    /// <summary>The call did what it says.</summary>
    Ok = 0,

    /// <summary>
    /// An argument is out of its range; nothing was written. Surfaces as <see cref="ArgumentException"/>.
    /// </summary>
    InvalidArgument = 1,

    /// <summary>Legal, but not offered by this backend or build; nothing was written.</summary>
    Unsupported = 2,

    /// <summary>
    /// The workspace is smaller than its query says; nothing was written. Surfaces as <see cref="ArgumentException"/>.
    /// </summary>
    WorkspaceTooSmall = 3,

    /// <summary>The host or the device ran out of memory.</summary>
    OutOfMemory = 4,

    /// <summary>The backend's library or device cannot be used; the text says why.</summary>
    BackendUnavailable = 5,

    /// <summary>The device reported an error; the text holds its code.</summary>
    Device = 6,

    /// <summary>A call with <see cref="CallFlags.Strict"/> met a NaN; nothing was written.</summary>
    Numeric = 7,

    /// <summary>A defect of the native library.</summary>
    Internal = 8,
}
