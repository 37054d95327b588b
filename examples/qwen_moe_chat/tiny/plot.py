#!/usr/bin/env python3
"""Draw the loss curves of a training log as an SVG picture."""
from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 400, 60, 20, 20, 50
CURVES = (("train", "answers, training text", "#27a"), ("held", "answers, held-out text", "#c63"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("loss.svg"))
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.log.read_text().splitlines()]
    last = max(row["tokens"] for row in rows)
    values = [row[name] for row in rows for name, _, _ in CURVES]
    low, high = math.log(min(values) * 0.9), math.log(max(values) * 1.1)

    def at(tokens: float, loss: float) -> tuple[float, float]:
        return (LEFT + tokens / last * (WIDTH - LEFT - RIGHT),
                TOP + (high - math.log(loss)) / (high - low) * (HEIGHT - TOP - BOTTOM))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
             f'font-size="13"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for loss in (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0):
        if low < math.log(loss) < high:
            _, y = at(0, loss)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                         f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:g}</text>')
    step = max(1, round(last / 5e6)) * 1_000_000
    for tokens in range(0, last + 1, step):
        x, _ = at(tokens, 1)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tokens // 1_000_000} M</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">tokens seen (loss in nats, logarithmic)</text>')
    for k, (name, title, colour) in enumerate(CURVES):
        points = " ".join("%.1f,%.1f" % at(row["tokens"], row[name]) for row in rows)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{WIDTH - RIGHT - 10}" y="{TOP + 20 + 18 * k}" text-anchor="end" fill="{colour}">{title}, at the end '
                     f'{rows[-1][name]:.3f}</text>')
    arguments.out.write_text("\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    main()
