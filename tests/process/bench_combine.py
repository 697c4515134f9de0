#!/usr/bin/python3
"""Prints what --combine-format int16 gains against float32 on a network of a given speed: pairs, as bench_pairs.py.

    bench_combine.py --checkpoint DIR [--rate 1gbit] [--sequences 1,8,32] [--prompt-tokens 8] ...

Two pools in the same namespaces (pool_network.py), each of a router in the hub and --workers in namespaces of their own,
talk TCP; each worker's link has --rate in each direction (tc tbf), "none": no limit. `before` is float32, `after` is int16.
With --prompt-tokens 512 --answer-tokens 1 prefill is measured. Needs root, iproute2 and nftables.

Left out: what bench_pairs.py leaves out; the latency of a real network (both formats pay it alike).
"""
from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_pairs import Side, add_flags, measure, show  # noqa: E402
from pool_faults import cpu_seconds  # noqa: E402
from pool_harness import Pool  # noqa: E402
from pool_network import Namespaces, why_not  # noqa: E402


class PoolSide:
    def __init__(self, name: str, pool: Pool) -> None:
        self.name, self._pool = name, pool

    def address(self) -> str:
        return self._pool.routers[0].http

    def cpu(self) -> float:
        return sum(cpu_seconds(managed.pid) for managed in (*self._pool.routers, *self._pool.workers))


@contextlib.contextmanager
def two_formats(arguments: argparse.Namespace) -> Iterator[tuple[Side, Side]]:
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Namespaces(
            arguments.workers, None if arguments.rate == "none" else arguments.rate))
        stack.enter_context(network.entered())
        first, second = (PoolSide(name, stack.enter_context(Pool(
            arguments.checkpoint, workers=arguments.workers, network=network,
            router_flags=["--combine-format", name, *arguments.flag]))) for name in ("float32", "int16"))
        yield first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", default="1gbit", help="of a worker's link, as tc writes it; none: no limit")
    add_flags(parser)
    arguments = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    show(arguments, measure(arguments, two_formats))


if __name__ == "__main__":
    main()
