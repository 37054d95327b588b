#!/usr/bin/env python3
"""Writes a mixture-of-experts checkpoint of random weights, for measurements by hand.

    make_checkpoint.py FOLDER --layers 4 --experts 256 --hidden 2048 --intermediate 512 --vocabulary 248320
"""
import argparse

import checkpoints

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
for option, value in {"layers": 2, "experts": 16, "hidden": 256, "intermediate": 128, "vocabulary": 512,
                      "shard-bytes": 4 * 10**9}.items():
    parser.add_argument("--" + option, type=int, default=value)
parser.add_argument("--single-experts", action="store_true", help="one tensor per expert instead of fused ones")
given = parser.parse_args()
checkpoints.make_moe(given.folder, given.layers, given.experts, given.hidden, given.intermediate, given.vocabulary,
                     given.shard_bytes, not given.single_experts)
