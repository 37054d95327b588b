#!/usr/bin/env python3
"""Computes the literals of include/hlwq/codebook_tables.hpp with 40 digits.

    codebook_tables.py              prints the three arrays as they stand in the header
    codebook_tables.py --check      compares them with the header; exit status 1 if a digit differs
    codebook_tables.py --energies   mean square of every table's centroids under codes of every other table

The original computes in double (A) or rounds every step to float (B, kept here). With 40 digits in between, the
results are the same floats, so the tables do not hang on one library's erf. Needs mpmath.
"""
import pathlib
import struct
import sys

import mpmath as mp

mp.mp.dps = 40
WIDTHS = range(1, 9)
INF = mp.inf


def to_float(x):
    """The nearest float32; the 53 bits in between cannot hide a tie, as `check_rounding` makes sure."""
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def check_rounding(x, rounded):
    spacing = mp.mpf(2) ** (mp.floor(mp.log(abs(x), 2)) - 23)
    assert abs(abs(x - mp.mpf(rounded)) / spacing - mp.mpf("0.5")) > mp.mpf(2) ** -28, x


def pdf(x):
    return mp.mpf(0) if x == INF else mp.npdf(x)


def upper_tail(x):
    return mp.mpf(0) if x == INF else mp.erfc(x / mp.sqrt(2)) / 2


def cells(edges):
    """Mass and mean of the cells between edges >= 0."""
    density = [pdf(x) for x in edges]
    tail = [upper_tail(x) for x in edges]
    mass = [a - b for a, b in zip(tail, tail[1:])]
    return mass, [(a - b) / m for a, b, m in zip(density, density[1:], mass)], density


def legacy(bits, outer, stored):
    """100 iterations of the original on the positive half; `stored` rounds what it keeps between steps."""
    count = 2 ** (bits - 1)
    edges = [mp.mpf(4 * k) / count for k in range(count)] + [outer]
    for _ in range(100):
        centroids = [stored(x) for x in cells(edges)[1]]
        for k in range(1, count):
            edges[k] = stored((centroids[k - 1] + centroids[k]) / 2)
    return centroids


def converged(bits):
    """The fixed point: Lloyd's iteration to get near, then Newton's on the tridiagonal equations."""
    count = 2 ** (bits - 1)
    centroids = [mp.sqrt(6) * mp.erfinv((2 * k + 1) / mp.mpf(2 * count)) for k in range(count)]
    for step in range(60):
        edges = [mp.mpf(0)] + [(a + b) / 2 for a, b in zip(centroids, centroids[1:])] + [INF]
        mass, mean, density = cells(edges)
        if step < 4:
            centroids = mean
            continue
        pivot, above, move = [], [], []
        for k in range(count):
            a = density[k] * (mean[k] - edges[k]) / mass[k] / 2 if k > 0 else mp.mpf(0)
            b = density[k + 1] * (edges[k + 1] - mean[k]) / mass[k] / 2 if k + 1 < count else mp.mpf(0)
            factor = -a / pivot[-1] if k > 0 else mp.mpf(0)
            pivot.append(1 - a - b - (factor * above[-1] if k > 0 else 0))
            move.append(centroids[k] - mean[k] - (factor * move[-1] if k > 0 else 0))
            above.append(-b)
        for k in reversed(range(count)):
            move[k] = (move[k] - (above[k] * move[k + 1] if k + 1 < count else 0)) / pivot[k]
        centroids = [c - m for c, m in zip(centroids, move)]
        if max(abs(m) for m in move) < mp.mpf(10) ** -30:
            assert all(a < b for a, b in zip(centroids, centroids[1:]))
            return centroids
    raise ArithmeticError("no convergence")


def tables():
    as_float = lambda x: mp.mpf(to_float(x))
    exact = {
        "legacy_a": [legacy(b, INF, lambda x: x) for b in WIDTHS],
        "legacy_b": [legacy(b, mp.mpf(4), as_float) for b in WIDTHS],
        "converged": [converged(b) for b in WIDTHS],
    }
    rounded = {}
    for name, halves in exact.items():
        rounded[name] = [[to_float(x) for x in half] for half in halves]
        if name != "legacy_b":  # those are floats already
            for half, floats in zip(halves, rounded[name]):
                for x, y in zip(half, floats):
                    check_rounding(x, y)
    return rounded


def literals(name, halves):
    lines = [f"inline constexpr float {name}_half[half_size] = {{"]
    for bits, half in zip(WIDTHS, halves):
        lines.append(f"    // {bits} bit" + ("s" if bits > 1 else ""))
        words = [f"{x:.9g}f" for x in half]
        lines += ["    " + ", ".join(words[k : k + 8]) + "," for k in range(0, len(words), 8)]
    return "\n".join(lines + ["};"]) + "\n"


def energies(rounded):
    print("bits  codes of      energy with " + "  ".join(f"{name:>9}" for name in rounded))
    for bits in WIDTHS:
        for writer in rounded:
            half = [mp.mpf(x) for x in rounded[writer][bits - 1]]
            edges = [mp.mpf(0)] + [(a + b) / 2 for a, b in zip(half, half[1:])] + [INF]
            mass = cells(edges)[0]
            row = [2 * sum(m * mp.mpf(x) ** 2 for m, x in zip(mass, rounded[name][bits - 1])) for name in rounded]
            print(f"{bits:4}  {writer:<9}                 " + "  ".join(f"{float(x):9.4f}" for x in row))


def main():
    rounded = tables()
    if "--energies" in sys.argv:
        energies(rounded)
    elif "--check" in sys.argv:
        header = pathlib.Path(__file__).parent.parent / "include/hlwq/codebook_tables.hpp"
        text = header.read_text(encoding="utf-8")
        wrong = [name for name, halves in rounded.items() if literals(name, halves) not in text]
        print("differs: " + ", ".join(wrong) if wrong else "all tables agree")
        return 1 if wrong else 0
    else:
        print("\n".join(literals(name, halves) for name, halves in rounded.items()), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
