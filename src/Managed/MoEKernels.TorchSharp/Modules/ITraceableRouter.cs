namespace MoEKernels.TorchSharp;

/// <summary>A router whose decisions a <see cref="RouterTrace"/> can write down.</summary>
internal interface ITraceableRouter : IRoutedModule
{
    /// <summary>Where forward writes to; null: nowhere.</summary>
    RouterTraceLayer? Trace { get; set; }
}
