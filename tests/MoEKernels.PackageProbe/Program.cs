using MoEKernels;
using MoEKernels.TorchSharp.Loading;
using TorchSharp;

// Touches torch before anything of MoEKernels, as an application may: only the package's module initializer can help.
float sum = torch.ones(3).sum().item<float>();
foreach (string step in TorchSharpLoader.LoadTrace) Console.WriteLine(step);
TorchSharpLoader.EnsureLoaded();

using var context = new MoeContext();
Console.WriteLine($"MoEKernels {MoeRuntime.BuildInfo.Version}, {context.InstructionSet}, {context.ThreadCount} threads");
return sum == 3 ? 0 : 1;
