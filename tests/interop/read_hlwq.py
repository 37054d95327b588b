#!/usr/bin/env python3
"""Reads a checkpoint that `hlwq quantize` wrote, by an implementation of its own, and compares it.

    read_hlwq.py DIR WEIGHTS_DIR [--most X]        (numpy)

Decodes every quantized matrix of DIR (format hlwq or polar-v5), puts expert slices together again, and compares with
the tensors of WEIGHTS_DIR: largest difference relative to the norm of the block's row, relative mean square error, and
whether all other tensors are equal byte for byte. With --most, ends with 1 if the largest difference exceeds X, and
always if a tensor is missing on either side."""
import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

from formats import BF16, bf16_to_float, codebook, dequantize, load_folder, unpack_half, unpack_lsb, unpack_msb


def as_float(array):
    return bf16_to_float(array) if isinstance(array, BF16) else array.astype(np.float32)


def decode_packed(tensors, base, name):
    rows, blocks, block, count, cols = (int(x) for x in tensors[base + "__meta"])
    packed = tensors[base + "__packed"]
    bits = packed.size * 8 // count
    codes = unpack_msb(packed, bits, count).reshape(rows, blocks, block)
    return dequantize(codes, tensors[base + "__norms"], codebook(name, bits), cols)


def decode_dotted(tensors, prefix, entry):
    codes, norms, table = (tensors[prefix + part] for part in (".codes", ".norms", ".ct_scaled"))
    block, bits = entry["block_size"], entry["bits"]
    if entry["packed"]:
        codes = unpack_half(codes, block)
    elif entry.get("packed_q5"):
        codes = unpack_lsb(codes, 5)
    codes = codes.view(np.uint8).reshape(*norms.shape, block)
    return dequantize(codes, norms, table.astype(np.float64) * np.sqrt(block), entry["in_features"])


def decode_folder(folder):
    """(name -> float64 matrix or stack of matrices, name -> array that was not quantized)"""
    tensors = load_folder(folder)
    config = json.loads((Path(folder) / "polar_config.json").read_text())
    matrices, parts = {}, set()
    for key in tensors:
        if key.endswith("__packed"):
            base = key[: -len("__packed")]
            parts |= {base + part for part in ("__packed", "__norms", "__meta")}
            matrices[base] = decode_packed(tensors, base, config["codebook"])
        elif key.endswith(".codes"):
            prefix = key[: -len(".codes")]
            parts |= {prefix + part for part in (".codes", ".norms", ".ct_scaled")}
            matrices[prefix + ".weight"] = decode_dotted(tensors, prefix, config["layers"][prefix])
    stacks = {}
    for name in list(matrices):
        slice_of = re.fullmatch(r"(.*\.experts)\.(\d+)\.(gate_up_proj|down_proj)\.weight", name)
        if not slice_of:
            continue
        folder_name, expert, leaf = slice_of.groups()
        if f"{folder_name}.{expert}.gate_up_proj.weight" in matrices or f"{folder_name}.gate_up_proj" in stacks:
            stacks.setdefault(f"{folder_name}.{leaf}", {})[int(expert)] = name
    for fused, slices in stacks.items():
        assert sorted(slices) == list(range(len(slices))), f"{fused}: experts {sorted(slices)}"
        matrices[fused] = np.stack([matrices[slices[e]] for e in range(len(slices))])
    for slices in stacks.values():
        for name in slices.values():
            del matrices[name]
    return matrices, {key: array for key, array in tensors.items() if key not in parts}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("dir")
    arguments.add_argument("weights")
    arguments.add_argument("--most", type=float)
    options = arguments.parse_args()
    matrices, plain = decode_folder(options.dir)
    weights = load_folder(options.weights)
    problems = [f"{name}: only on one side" for name in (set(matrices) | set(plain)) ^ set(weights)]
    largest, error, energy = 0.0, 0.0, 0.0
    for name in sorted(set(matrices) & set(weights)):
        w = as_float(weights[name]).astype(np.float64)
        if w.shape != matrices[name].shape:
            problems.append(f"{name}: shape {matrices[name].shape} against {w.shape}")
            continue
        difference = np.abs(w - matrices[name])
        scale = np.maximum(np.linalg.norm(w, axis=-1, keepdims=True), 1e-30)
        largest = max(largest, float((difference / scale).max()))
        error += float((difference**2).sum())
        energy += float((w**2).sum())
    for name in sorted(set(plain) & set(weights)):
        if plain[name].tobytes() != weights[name].tobytes():
            problems.append(f"{name}: kept tensor differs")
    print(f"{len(matrices)} quantized tensors: largest difference / row norm {largest:.3g}, "
          f"relative MSE {error / max(energy, 1e-300):.4g}; {len(plain)} others")
    if options.most is not None and largest > options.most:
        problems.append(f"largest difference {largest:.3g} exceeds {options.most:.3g}")
    for problem in problems[:20]:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
