using System.Runtime.CompilerServices;

// Every import is blittable, so nothing is marshalled and no stub is generated at run time.
[assembly: DisableRuntimeMarshalling]
