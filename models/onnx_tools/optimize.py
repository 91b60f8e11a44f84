"""`python -m onnx_tools.optimize FILE`: rewrites a slow export, proves that it answers the same, and writes it."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

import numpy as np
import onnx

from . import parity
from .rewrite import Report, optimize


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m onnx_tools.optimize", description=__doc__.split("`: ")[1])
    parser.add_argument("file", type=Path, help="the model")
    parser.add_argument("-o", "--out", type=Path, help="where to write (default: FILE with .optimized.onnx)")
    parser.add_argument("--in-place", action="store_true", help="replace FILE")
    parser.add_argument("--rows", type=Path, metavar="CSV", help="rows to compare on as well; one header line, numbers only")
    return parser.parse_args()


def read_rows(path: Path) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array([[float(cell) for cell in line] for line in list(csv.reader(file))[1:] if line])


def words(report: Report) -> list[str]:
    lines = [f"nodes: {report.nodes_before} -> {report.nodes_after}"]
    if report.trees:
        lines.append(f"{report.trees} trees fused into one ensemble")
    if report.distances:
        lines.append(f"{report.distances} distance loop(s) replaced")
    lines += [f"output {name!r} is now a tensor; its columns are {classes}" for name, classes in report.zip_maps.items()]
    lines += [f"output {name!r} is now [N, {wide}]; it was [N * {wide}, 1]" for name, wide in report.reshapes.items()]
    if report.labels:
        lines.append(f"{report.labels} label computation(s) shortened")
    if report.signs:
        lines.append(f"{report.signs} change(s) of sign went into the node beside them")
    return lines + [f"clean-up: {count} {kind}" for kind, count in report.cleaned.items()]


def main() -> int:
    given = arguments()
    out = given.file if given.in_place else given.out or given.file.with_suffix(".optimized.onnx")
    if out.exists() and not given.in_place and out.samefile(given.file):
        print(f"{out} is the input; say --in-place to replace it", file=sys.stderr)
        return 1
    before = onnx.load(given.file)
    rows = read_rows(given.rows) if given.rows else None
    # Another way to compute distances may be what makes answers differ: there is an exact one, and there is the loop.
    for form in ("cdist", "exact", "loop"):
        after, report = optimize(before, form)
        if not report.changed:
            print("nothing to rewrite; no file was written")
            return 0
        try:
            difference = parity.compare(before, after, rows, report.zip_maps)
        except parity.CannotCompare as reason:
            print(f"not written: {reason}", file=sys.stderr)
            return 1
        if not difference or not report.distances:
            break
    print("\n".join(words(report)))
    if difference:
        print(f"not written: the answers differ, most of all in {difference}", file=sys.stderr)
        return 1
    draft = out.with_name(f"{out.name}.new")
    draft.write_bytes(after.SerializeToString())
    os.replace(draft, out)
    print(f"{out}: the same answers within {parity.TOLERANCE} on {parity.ROWS} rows and those given")
    return 0


if __name__ == "__main__":
    sys.exit(main())
