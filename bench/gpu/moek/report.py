"""What is written: every number as JSON, and a table for people."""

import json
import pathlib

DIRECTIONS = ("forward", "backward", "forward+backward")


def document(machine, ceilings, launch_us, date, records, left_out):
    return {
        "date": date,
        "machine": machine,
        "ceilings": {"copy_bytes_per_s": ceilings.copy, "matrix_operations_per_s": ceilings.matrix, "launch_us": launch_us},
        "left_out": left_out,
        "results": records,
    }


def merged(older, newer):
    """Newer results, and those older ones of the same machine and commit that were not measured again."""
    for key in ("gpu", "commit"):
        if older["machine"][key] != newer["machine"][key]:
            raise ValueError(f"cannot merge results of {key} {older['machine'][key]} into those of {newer['machine'][key]}")
    again = {json.dumps(record["case"], sort_keys=True) for record in newer["results"]}
    kept = [record for record in older["results"] if json.dumps(record["case"], sort_keys=True) not in again]
    return {**newer, "results": kept + newer["results"]}


def write(document_, folder, name):
    """<folder>/<name>.json and .md; returns their paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.json", folder / f"{name}.md"]
    paths[0].write_text(json.dumps(document_, indent=1) + "\n")
    paths[1].write_text(markdown(document_))
    return paths


def headline_way(times):
    """Graph replays where there are any."""
    return "graph" if "graph" in times else "eager"


def time_of(record, name, direction):
    """The median in µs, or None. What PyTorch's backward takes is the difference of its two measurements."""
    times = record["times"].get(name, {})
    if direction in times:
        return times[direction][headline_way(times[direction])]["median"]
    if direction == "backward" and {"forward", "forward+backward"} <= set(times):
        return time_of(record, name, "forward+backward") - time_of(record, name, "forward")
    if direction == "forward+backward" and {"forward", "backward"} <= set(times):
        return time_of(record, name, "forward") + time_of(record, name, "backward")
    return None


def markdown(document_):
    machine, ceilings = document_["machine"], document_["ceilings"]
    rates = ", ".join(f"{name} {rate / 1e12:.0f}" for name, rate in ceilings["matrix_operations_per_s"].items())
    lines = [
        f"# {machine['gpu']}, {document_['date']}, commit {machine['commit']}",
        "",
        f"- `{machine['command']}`",
        f"- driver {machine.get('driver', '-')}, CUDA {machine.get('cuda', '-')}, PyTorch {machine['torch']}, "
        f"clocks before (SM, memory, their maxima) {machine.get('clocks', '-')}",
        f"- library {machine['library']['version']} ({machine['library']['build']}), {machine['library']['compiler']}, "
        f"{machine['library']['sm']}",
        f"- measured here: copy {ceilings['copy_bytes_per_s'] / 1e12:.2f} TB/s (read and written), matrix products {rates} TFLOP/s, "
        f"least launch in a graph {ceilings['launch_us']:.1f} µs",
        "",
        "Times are medians in µs of graph replays, in brackets the tenth and the ninetieth percentile; *eager* is the same without "
        "a graph. Inputs rotate through more than the L2 cache holds. GB/s counts every tensor once. Floors are those of "
        "`bench/gpu/moek/floors.py`. The last columns say how many times longer others take; PyTorch's backward is its forward "
        "and backward less its forward. *cuBLAS* is the op's large products alone.",
    ]
    for section in dict.fromkeys(record["section"] for record in document_["results"]):
        records = [record for record in document_["results"] if record["section"] == section]
        lines += ["", f"## {section}", ""] + _table(records, ceilings)
    skipped = _skipped(document_["results"])
    if skipped:
        lines += ["", "## Not measured", ""] + [f"- {text}" for text in skipped]
    if document_["left_out"]:
        lines += ["", f"Left out for lack of time: {', '.join(document_['left_out'])}."]
    return "\n".join(lines) + "\n"


def _table(records, ceilings):
    others = list(dict.fromkeys(name for record in records for name, times in record["times"].items()
                                if name != "moekernels" and "skipped" not in times))
    head = ["shape", "types", "pass", "µs", "eager µs", "GB/s", "of copy", "floor µs", "of floor"] + others
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|" + "--:|" * (len(head) - 3)]
    for record in records:
        for direction in DIRECTIONS:
            if direction in record["times"]["moekernels"]:
                lines.append("| " + " | ".join(_row(record, direction, others, ceilings)) + " |")
    return lines


def _row(record, direction, others, ceilings):
    times = record["times"]["moekernels"][direction]
    sample = times[headline_way(times)]
    mine = sample["median"]
    parts = [direction] if direction in record["bytes"] else ["forward", "backward"]
    rate = sum(record["bytes"][part] for part in parts) / (mine * 1e-6)
    floor = sum(record["floor_us"][part] for part in parts)
    cells = [record["case"]["text"], record["case"]["dtype"], direction,
             f"{mine:.1f} ({sample['low']:.1f}-{sample['high']:.1f})", f"{times['eager']['median']:.1f}", f"{rate / 1e9:.0f}",
             f"{rate / ceilings['copy_bytes_per_s']:.0%}", f"{floor:.1f}", f"{floor / mine:.0%}"]
    for name in others:
        theirs = time_of(record, name, direction)
        cells.append("" if theirs is None else f"{theirs / mine:.2f}")
    return cells


def _skipped(records):
    reasons = {}
    for record in records:
        for name, times in record["times"].items():
            if "skipped" in times:
                reasons.setdefault((name, times["skipped"]), []).append(record["case"]["text"])
    return [f"{name}: {reason} ({len(shapes)} points, the first {shapes[0]})" for (name, reason), shapes in reasons.items()]
