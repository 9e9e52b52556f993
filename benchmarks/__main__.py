"""Measures this package beside its peers; docs/benchmarks.md says how to read what comes out."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from pathlib import Path

from benchmarks import environment


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds: minutes, and only a hint")
    parser.add_argument("--only", action="append", metavar="NAME", help="one workload (may be given several times)")
    parser.add_argument("--backend", default=",".join(environment.backends()), help="which (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="draw a picture of each series")
    parser.add_argument("--upgrade", action="store_true", help="fetch the newest peers first")
    return parser.parse_args()


def main() -> None:
    """Read the arguments, and run."""
    arguments = _arguments()
    environment.enter(upgrade=arguments.upgrade)
    # What follows is installed in the environment only.
    from benchmarks import workloads

    names: list[str] = arguments.only or list(workloads.ALL)
    if unknown := [name for name in names if name not in workloads.ALL]:
        sys.exit(f"There is no workload {', '.join(unknown)}. Known: {', '.join(workloads.ALL)}.")
    asyncio.run(_run(arguments, names))


async def _run(arguments: argparse.Namespace, names: list[str]) -> None:
    from benchmarks import picture, report, workloads
    from benchmarks.bench import Bench
    from benchmarks.databases import databases
    from benchmarks.figures import Series

    # All that the peers' packages brought along: a collection that goes through it takes 90 ms, whosever turn it is.
    gc.collect()
    gc.freeze()
    found = report.circumstances(quick=arguments.quick)
    print(report.heading(found), flush=True)
    measured: list[Series] = []
    begin = time.monotonic()
    for backend in arguments.backend.split(","):
        async with databases(backend) as made:
            for name in names:
                bench = Bench(name, made, quick=arguments.quick)
                await workloads.ALL[name](bench)
                measured += bench.series
                for series in bench.series:
                    print(f"\n{report.table(series)}", flush=True)
                print(f"\n[{name} on {backend}: {time.monotonic() - begin:.0f} s since the start]", flush=True)
    if arguments.json:
        data = {"circumstances": found, "series": [series.as_json() for series in measured]}
        arguments.json.write_text(json.dumps(data, indent=1) + "\n")
    if arguments.svg:
        arguments.svg.mkdir(parents=True, exist_ok=True)
        for series in filter(picture.is_worth_one, measured):
            (arguments.svg / f"{picture.file_name(series)}.svg").write_text(picture.drawn(series))


if __name__ == "__main__":
    main()
