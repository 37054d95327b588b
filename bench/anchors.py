#!/usr/bin/env python3
"""The anchors of the `searched` encoder (hlwq/quantize.hpp, search_anchors), and what they are worth.

For blocks of 32, 128 and 1024 values (Gaussian, Gaussian with a mean of 0.3 sigma, Gaussian with one tenfold value) a
dense grid finds the scale with the least error after refitting. Divided by max|z| / max|centroid| these scales lie close
together; their quantiles are the anchors. Beside them: the same number of fixed scales, and the dense grid.

Needs numpy. Usage: python3 bench/anchors.py [bits ...]
"""
import math
import sys
from statistics import NormalDist

import numpy as np


def lloyd(bits, converged):
    """Table A of the formats (100 steps from uniform cells, infinite tails), or the fixed point of the iteration."""
    levels = 2**bits
    pdf = lambda x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))
    edges = np.linspace(-4, 4, levels + 1)
    if converged:
        start = [math.sqrt(3) * NormalDist().inv_cdf((k + 0.5) / levels) for k in range(levels)]
        edges[1:-1] = (np.array(start)[1:] + np.array(start)[:-1]) / 2
    edges[0], edges[-1] = -40, 40
    for _ in range(4000 if converged else 100):
        c = (pdf(edges[:-1]) - pdf(edges[1:])) / (cdf(edges[1:]) - cdf(edges[:-1]))
        edges[1:-1] = (c[1:] + c[:-1]) / 2
    return c


def rotated_blocks(kind, count, block, rng):
    x = rng.standard_normal((count, block))
    if kind == "spike":
        x[:, 0] *= 10
    if kind == "mean":
        x += 0.3
    h = np.array([[1.0]])
    while len(h) < block:
        h = np.block([[h, h], [h, -h]])
    return (x / np.linalg.norm(x, axis=1, keepdims=True)) @ h


def search(z, c, scales):
    """Relative error after the best of the given scales (one row of them per block) and a refit; the scale chosen."""
    thresholds = (c[1:] + c[:-1]) / 2
    best, chosen = np.full(len(z), -1.0), np.ones(len(z))
    for k in range(scales.shape[1]):
        v = c[np.searchsorted(thresholds, z / scales[:, k : k + 1])]
        gain = (z * v).sum(1) ** 2 / (v * v).sum(1)
        better = gain > best
        best[better], chosen[better] = gain[better], scales[better, k]
    return (1 - best / (z * z).sum(1)).mean(), chosen


def main():
    rng = np.random.default_rng(1)
    sources = {
        (block, kind): rotated_blocks(kind, count, block, rng)
        for block, count in ((128, 1200), (32, 1200), (1024, 150))
        for kind in ("gauss", "mean", "spike")
    }
    for bits in [int(a) for a in sys.argv[1:]] or range(2, 9):
        tables = {"A": lloyd(bits, False), "C": lloyd(bits, True)}
        pool = []
        for name, c in tables.items():
            for (block, kind), z in sources.items():
                z = z[:200]
                top = np.abs(z).max(1)
                _, chosen = search(z, c, top[:, None] / c[-1] * np.linspace(0.25, 1.9, 250)[None, :])
                weight = (4 if block == 128 else 1) * (2 if kind == "gauss" else 1) * (2 if name == "A" else 1)
                pool += list(np.repeat(chosen * c[-1] / top, weight))
        anchors = np.quantile(pool, (np.arange(6) + 0.5) / 6)
        print(f"bits {bits}: anchors {np.round(anchors, 3).tolist()}")
        for name, c in tables.items():
            for kind in ("gauss", "mean", "spike"):
                z = sources[128, kind]
                top = np.abs(z).max(1)
                ones = np.ones((len(z), 1))
                relative, _ = search(z, c, np.hstack([ones, top[:, None] / c[-1] * anchors[None, :]]))
                fixed6, _ = search(z, c, ones * np.linspace(0.6, 1.1, 6)[None, :])
                fixed16, _ = search(z, c, ones * np.linspace(0.6, 1.1, 16)[None, :])
                dense, _ = search(z, c, top[:, None] / c[-1] * np.linspace(0.25, 1.9, 250)[None, :])
                nearest = ((z - c[np.searchsorted((c[1:] + c[:-1]) / 2, z)]) ** 2).mean()
                print(
                    f"  table {name} {kind:5}: nearest {nearest:.3e}  6 anchors {relative:.3e}"
                    f"  6 fixed {fixed6:.3e}  16 fixed {fixed16:.3e}  dense {dense:.3e}"
                )


if __name__ == "__main__":
    main()
