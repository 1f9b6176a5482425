<#
.SYNOPSIS
Builds MoEKernels. The same targets and options as build.sh; both only call CMake and dotnet.

.PARAMETER Target
native, managed, test, bench, pack, or all (everything but bench).

.PARAMETER Configuration
Release (default) or Debug, for the managed code.

.PARAMETER NativeConfiguration
Release (default) or Debug, for the kernels.

.PARAMETER Cuda
auto, on or off. Not given: what the build folder was configured with, auto at first.

.PARAMETER Architectures
CUDA architectures separated by commas, for example '80,90a'.

.PARAMETER BenchArguments
Arguments for the benchmark program.
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)][ValidateSet('native', 'managed', 'test', 'bench', 'pack', 'all')][string]$Target = 'all',
    [ValidateSet('Release', 'Debug')][string]$Configuration = 'Release',
    [ValidateSet('Release', 'Debug')][string]$NativeConfiguration = 'Release',
    [ValidateSet('', 'auto', 'on', 'off')][string]$Cuda = '',
    [string[]]$Architectures = @(),
    [Parameter(ValueFromRemainingArguments = $true)][string[]]$BenchArguments = @()
)

$ErrorActionPreference = 'Stop'
Set-Location -LiteralPath $PSScriptRoot

# PowerShell goes on after a program that failed, so every call passes through here.
function Invoke-Program([string]$Name, [string[]]$Arguments) {
    if (-not (Get-Command $Name -CommandType Application -ErrorAction SilentlyContinue)) {
        [Console]::Error.WriteLine("build.ps1: '$Name' is not on the PATH")
        exit 1
    }
    & $Name @Arguments
    if ($LASTEXITCODE -ne 0) { exit $LASTEXITCODE }
}

$nativeOptions = @("-DCONFIG=$NativeConfiguration")
$managedOptions = @('--configuration', $Configuration, "-p:NativeConfiguration=$NativeConfiguration")
if ($Cuda -ne '') {
    $nativeOptions += "-DCUDA=$Cuda"
    $managedOptions += "-p:NativeCuda=$Cuda"
}
if ($Architectures.Count -gt 0) {
    $nativeOptions += '-DARCHITECTURES=' + ($Architectures -join ',')
    # MSBuild separates properties by commas; the escaped one reaches CMake as a comma.
    $managedOptions += '-p:NativeCudaArchitectures=' + ($Architectures -join ',').Replace(',', '%2c')
}

function Build-Native([string[]]$More = @()) { Invoke-Program 'cmake' ($nativeOptions + $More + @('-P', 'eng/NativeBuild.cmake')) }
function Build-Managed { Invoke-Program 'dotnet' (@('build', 'MoEKernels.sln') + $managedOptions) }
function Invoke-Tests {
    Build-Native @('-DRUN_TESTS=ON')
    Invoke-Program 'dotnet' (@('test', 'MoEKernels.sln') + $managedOptions)
}
function Invoke-Bench {
    Invoke-Program 'dotnet' (@('run', '--project', 'bench/MoEKernels.Benchmarks') + $managedOptions + @('--') + $BenchArguments)
}
function New-Packages { Invoke-Program 'dotnet' (@('pack', 'MoEKernels.sln') + $managedOptions + @('--output', 'artifacts/packages')) }

switch ($Target) {
    'native' { Build-Native }
    'managed' { Build-Managed }
    'test' { Invoke-Tests }
    'bench' { Invoke-Bench }
    'pack' { New-Packages }
    'all' { Build-Native; Build-Managed; Invoke-Tests; New-Packages }
}
exit 0
