"""Run benchmarks and print each figure beside its target."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable

import trio

from benchmarks.appview import projector, timeline
from benchmarks.crowd import crowd
from benchmarks.figures import Figure, print_figures
from benchmarks.reads import reads
from benchmarks.streams import fan_out_and_memory, live_latency, replay
from benchmarks.visibility import visibility
from benchmarks.workers import two_processes
from benchmarks.writes import apply_writes, create_records, growth

BENCHMARKS: dict[str, Callable[[], Awaitable[list[Figure]]]] = {
    "create": create_records,
    "growth": growth,
    "batch": apply_writes,
    "reads": reads,
    "replay": replay,
    "fan-out": fan_out_and_memory,
    "live": live_latency,
    "visibility": visibility,
    "projector": projector,
    "timeline": timeline,
    "workers": two_processes,
    "crowd": crowd,
}


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}")
    figures: list[Figure] = []
    for name in arguments.names or BENCHMARKS:
        print(f"running {name} …", file=sys.stderr)
        figures += trio.run(BENCHMARKS[name])
    if arguments.json:
        print(json.dumps([figure.as_json() for figure in figures], indent=2))
    else:
        print_figures(figures)


if __name__ == "__main__":
    main()
