#!/usr/bin/env python3
"""Compares the registers and the shared memory of every kernel with native/cuda/resources.tsv, or writes that table.

    resources.py check|update --nvcc NVCC --library LIBRARY [--table TABLE]

`eng/cuda/kernels.sh update` builds and calls this. A kernel may take REGISTER_ALLOWANCE registers more than the table says,
because the compiler moves by a few when neighbouring code changes; shared memory may not grow, and there is never a stack. A
kernel that is new or gone has to be in the table or out of it. Register allocation differs between toolkits, so that the
check exits with 77 (skipped) for another one than the table's.
"""

import argparse
import pathlib
import sys

from toolkit import Toolkit

REGISTER_ALLOWANCE = 4
SKIPPED = 77
TABLE = pathlib.Path(__file__).resolve().parents[2] / "native/cuda/resources.tsv"
UPDATE = "eng/cuda/kernels.sh update"

_HEADER = """\
# Registers per thread and static shared memory per block, in bytes, of every kernel of moekernels_cuda.
# Written by `{update}`; CI compares it with what the same toolkit builds.
# toolkit {toolkit}
"""


def render(usages, toolkit):
    """The table's text."""
    architectures = sorted({architecture for _, architecture in usages})
    lines = ["\t".join(["kernel"] + [f"{a} {what}" for a in architectures for what in ("registers", "shared")])]
    for kernel in sorted({kernel for kernel, _ in usages}):
        cells = [kernel]
        for architecture in architectures:
            usage = usages.get((kernel, architecture))
            cells += [str(usage.registers), str(usage.shared)] if usage else ["-", "-"]
        lines.append("\t".join(cells))
    return _HEADER.format(update=UPDATE, toolkit=toolkit) + "\n".join(lines) + "\n"


def parse(text):
    """The toolkit's version and {(kernel, architecture): (registers, shared)} of a table."""
    toolkit = None
    rows = []
    for line in text.splitlines():
        if line.startswith("# toolkit "):
            toolkit = line.split()[2]
        elif line and not line.startswith("#"):
            rows.append(line.split("\t"))
    if toolkit is None or not rows or rows[0][0] != "kernel":
        raise ValueError("it has no line '# toolkit VERSION' or no line of column names")
    columns = [name.split(" ") for name in rows[0][1:]]
    table = {}
    for row in rows[1:]:
        if len(row) != len(columns) + 1:
            raise ValueError(f"the row of {row[0]} has {len(row)} cells, expected {len(columns) + 1}")
        for at in range(0, len(columns), 2):
            if row[1 + at] != "-":
                table[row[0], columns[at][0]] = (int(row[1 + at]), int(row[2 + at]))
    return toolkit, table


def compare(usages, table):
    """What is wrong, one sentence each."""
    problems = []
    for (kernel, architecture), usage in sorted(usages.items()):
        where = f"{kernel} on {architecture}"
        if usage.stack or usage.local:
            problems.append(f"{where} keeps {usage.stack + usage.local} bytes in local memory, expected none")
        if (kernel, architecture) not in table:
            problems.append(f"{where} is not in the table")
            continue
        registers, shared = table[kernel, architecture]
        if usage.registers > registers + REGISTER_ALLOWANCE:
            problems.append(f"{where} takes {usage.registers} registers, expected at most {registers} + {REGISTER_ALLOWANCE}")
        if usage.shared > shared:
            problems.append(f"{where} takes {usage.shared} bytes of shared memory, expected at most {shared}")
    problems += [f"{kernel} on {architecture} is in the table, but not in the library"
                 for kernel, architecture in sorted(table) if (kernel, architecture) not in usages]
    return problems


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["check", "update"])
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--table", type=pathlib.Path, default=TABLE)
    options = parser.parse_args(arguments)

    toolkit = Toolkit(options.nvcc)
    version = toolkit.version()
    if options.mode == "update":
        usages = toolkit.usages(options.library)
        options.table.write_text(render(usages, version))
        print(f"resources: wrote {len({kernel for kernel, _ in usages})} kernels to {options.table}")
        return 0

    expected_version, table = parse(options.table.read_text())
    if version != expected_version:
        print(f"resources: skipped: {options.table.name} is of CUDA {expected_version}, this is {version}")
        return SKIPPED
    usages = toolkit.usages(options.library)
    problems = compare(usages, table)
    for problem in problems:
        print(f"resources: error: {problem}")
    if problems:
        print(f"resources: if that is meant, run {UPDATE} and look at the difference")
        return 1
    print(f"resources: {len(usages)} kernels (all architectures counted) are as {options.table.name} says")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, ValueError) as error:
        sys.exit(f"resources: error: {error}")
