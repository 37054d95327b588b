#!/usr/bin/env python3
"""Seeds of the checkpoint fuzzer: one small matrix in every dialect.  make_checkpoint_corpus.py OUT_DIR   (numpy)"""
import json
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "interop"))
from formats import codebook, pack_half, pack_lsb, pack_msb, quantize, save  # noqa: E402

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(5)


def seed(name, tensors, polar=None, config=None):
    texts = [json.dumps(t).encode() if t is not None else b"" for t in (polar, config)]
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "x", tensors)
        file = (Path(folder) / "x").read_bytes()
    (out / name).write_bytes(b"".join(struct.pack("<H", len(t)) + t for t in texts) + file)


def encode(bits, cols=40, block=32):
    codes, norms = quantize(rng.standard_normal((2, cols)), bits, codebook("legacy-a", bits), block)
    return codes, norms, codebook("legacy-a", bits)


def entry(bits, **more):
    return {"l.0.q_proj": dict(in_features=40, out_features=2, in_features_padded=64, n_blocks=2, bits=bits,
                               block_size=32, **more)}


P = "l.0.q_proj"
for bits, pack in [(3, pack_half), (5, lambda c: pack_lsb(c.reshape(2, -1), 5)), (6, lambda c: c.reshape(2, -1).view(np.int8))]:
    c, n, t = encode(bits)
    seed(f"v5_{bits}", {P + ".codes": pack(c), P + ".norms": n, P + ".ct_scaled": t / np.float32(32) ** 0.5},
         {"format": "polar_engine_v5", "block_size": 32, "layers": entry(bits)})
c, n, t = encode(2)
seed("v4_notebook", {P + ".codes_packed": pack_half(c), P + ".norms": n, P + ".ct_scaled": t},
     {"format": "polar_engine_v4", "block_size": 32})
seed("v5_notebook", {P + ".codes": c.reshape(2, -1).view(np.int8), P + ".norms": n, P + ".ct": t})
seed("dunder", {"l__0__q_proj__weight__codes": c.reshape(2, -1).view(np.int8), "l__0__q_proj__weight__norms": n},
     None, {"text_config": {"hidden_size": 40}})
for bits, meta in [(5, [2, 2, 32, 128, 40]), (3, [2, 2, 32, 128]), (4, [4, 64]), (8, [8, 64, 32, 128])]:
    c, n, t = encode(bits)
    seed(f"hlwq_{bits}_{len(meta)}", {P + ".weight__packed": pack_msb(c.reshape(-1), bits), P + ".weight__norms": n,
                                      P + ".weight__meta": np.array(meta)},
         {"format": f"hlwq-q{bits}", "codebook": "legacy-b", "layers": entry(bits)} if bits == 5 else None)
slices = {}
for base in ("m__experts__gate_up_proj_e0", "m.experts.1.gate_up_proj.weight", "m.experts.1.down_proj.weight",
             "m.experts.down_proj.0.weight"):
    c, n, t = encode(2)
    slices.update({base + "__packed": pack_msb(c.reshape(-1), 2), base + "__norms": n,
                   base + "__meta": np.array([2, 2, 32, 128, 40])})
seed("slices", slices)
seed("plain", {"a.weight": np.zeros((2, 2), np.float32), "b.norms": np.zeros(1, np.float16)}, {}, {})
