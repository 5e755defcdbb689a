"""How full packed windows are: python -m benchmarks.windows.packing TABLES_ROOT [--length 8192].

Takes the lengths of the real documents in a `lengths` table, packs those that one window holds,
and prints the table of docs/performance.md: our best fit in groups, as the job packs them, beside
first-fit and next-fit of the whole, and the least that any packing could waste.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence

from benchmarks.tables.reading import columns_of
from longattn.udfs.windows.packing import best_fit, concat, waste

Bins = list[int]  # tokens in each window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--length", type=int, default=8192)
    given = parser.parse_args()
    sizes = columns_of(given.root, "lengths", "n_tokens")["n_tokens"].to_pylist()
    sizes = [n for n in sizes if 0 < n <= given.length]
    random.Random(0).shuffle(sizes)
    print(f"{len(sizes):,} documents, {sum(sizes):,} tokens, windows of {given.length:,}\n")
    print("| packing | windows | waste | documents cut | seconds |\n|---|--:|--:|--:|--:|")
    for name, pack in ways(given.length).items():
        started = time.perf_counter()
        bins, n_cut = pack(sizes)
        seconds = time.perf_counter() - started
        empty = waste(bins, given.length)
        print(f"| {name} | {len(bins):,} | {empty:.3%} | {n_cut:,} | {seconds:.2f} |", flush=True)


def ways(length: int) -> dict[str, Callable[[list[int]], tuple[Bins, int]]]:
    """Ways to pack, by name: each gives tokens per window, and how many documents it cut."""
    return {
        "best_fit, groups of 16 M tokens": lambda s: (grouped(s, length, 1 << 24), 0),
        "first-fit decreasing (reference)": lambda s: (first_fit(sorted(s)[::-1], length), 0),
        "next-fit, as they come": lambda s: (next_fit(s, length), 0),
        "concat": lambda s: (fills(concat(s, length)), cut(s, length)),
        "bound: no window but the last has room": lambda s: (even(s, length), 0),
    }


def fills(windows: Sequence[Sequence[tuple[int, int, int]]]) -> Bins:
    return [sum(n_tokens for _, _, n_tokens in window) for window in windows]


def grouped(sizes: list[int], length: int, group_tokens: int) -> Bins:
    """Best fit of groups of about so many tokens, each by itself."""
    count = max(1, round(sum(sizes) / group_tokens))
    return [n for i in range(count) for n in fills(best_fit(sizes[i::count], length))]


def first_fit(sizes: list[int], length: int) -> Bins:
    """The textbook's: each into the first window that has room; a tree of maxima finds it."""
    width = 1 << max(1, math.ceil(math.log2(len(sizes))))
    room, bins = [length] * (2 * width), [0] * len(sizes)
    for size in sizes:
        node = 1
        while node < width:
            node = 2 * node if room[2 * node] >= size else 2 * node + 1
        window = node - width
        used = min(size + 1, room[node])  # with a separator, where it still fits
        bins[window] += used
        room[node] -= used
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return [n for n in bins if n]


def next_fit(sizes: list[int], length: int) -> Bins:
    """Into the last window or a new one."""
    bins = [0]
    for size in sizes:
        if bins[-1] + size > length:
            bins.append(0)
        bins[-1] = min(bins[-1] + size + 1, length)
    return bins


def cut(sizes: list[int], length: int) -> int:
    """Documents that a window's end falls into when all are joined."""
    place = n_cut = 0
    for size in sizes:
        n_cut += place // length != (place + size - 1) // length
        place += size + 1
    return n_cut


def even(sizes: list[int], length: int) -> Bins:
    total = sum(sizes) + len(sizes) - 1
    return [length] * (total // length) + [total % length] * (total % length > 0)


if __name__ == "__main__":
    main()
