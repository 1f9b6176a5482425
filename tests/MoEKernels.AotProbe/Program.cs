using System.Runtime.CompilerServices;

// The probe is worth something only where no JIT can help out.
Console.WriteLine(RuntimeFeature.IsDynamicCodeSupported ? "running on the JIT" : "running as native code");
return 0;
