#!/usr/bin/env python3
"""Writes small checkpoints in every published dialect and spelling, and what they must dequantize to.

    write_dialects.py OUT_DIR        (numpy)

OUT_DIR/<case>/            the checkpoint
OUT_DIR/expected/<case>.safetensors
                           F32 weights under the names that a reader must give them; the metadata tells the folder,
                           the dialect, the codebook and how it was found, and which matrices are expert slices."""
import json
import math
import sys
from pathlib import Path

import numpy as np

from formats import BF16, bf16, bf16_to_float, codebook, dequantize, pack_half, pack_lsb, pack_msb, quantize, save

out = Path(sys.argv[1])
rng = np.random.default_rng(20260329)
ATTENTION = "model.language_model.layers.0.self_attn."
EXPERTS = "model.language_model.layers.1.mlp.experts."


def weights(rows, cols):
    """Gaussian rows of different magnitude, one block of zeros, and an outlier where no statistics are asked for."""
    w = rng.standard_normal((rows, cols)) * np.exp2(rng.integers(-8, 3, (rows, 1)))
    w[rows // 2, : min(cols, 128)] = 0
    if rows < 8:
        w[rows // 3, cols // 3] *= 12
    return w.astype(np.float32)


class Case:
    def __init__(self, name, dialect, book, source, folder=None):
        self.name, self.folder = name, folder or name
        self.metadata = {"folder": self.folder, "dialect": dialect, "codebook": book, "source": source}
        self.tensors, self.expected, self.slices, self.bits = {}, {}, {}, {}
        self.layers = {}

    def encode(self, shape, bits, book, block=128):
        w = weights(*shape)
        table = codebook(book, bits)
        codes, norms = quantize(w, bits, table, block)
        return codes, norms, table, dequantize(codes, norms, table, shape[1]).astype(np.float32)

    def expect(self, name, bits, w, slice_of=None):
        self.expected[name] = w
        self.bits[name] = bits
        if slice_of:
            self.slices[name] = slice_of

    def plain(self):
        for name, array in {"model.language_model.norm.weight": bf16(rng.standard_normal(64)),
                            ATTENTION + "q_norm.weight": rng.standard_normal(16).astype(np.float16),
                            "model.language_model.layers.0.mlp.gate.weight": bf16(rng.standard_normal((4, 24)))}.items():
            self.tensors[name] = array
            self.expected[name] = (bf16_to_float(array) if isinstance(array, BF16) else array).astype(np.float32)

    def entry(self, prefix, shape, bits, block, **more):
        self.layers[prefix] = {"in_features": shape[1], "out_features": shape[0], "bits": bits, "block_size": block,
                               **more}

    def finish(self, config=None, polar=None, files=None, order=None, pad=8):
        """files: {file name: predicate over keys}; without it one model.safetensors."""
        for file, belongs in (files or {"model.safetensors": lambda key: True}).items():
            mine = {key: array for key, array in self.tensors.items() if belongs(key)}
            save(out / self.folder / file, mine, {"format": "pt"}, order and sorted(mine), pad)
        for file, content in {"config.json": config, "polar_config.json": polar}.items():
            if content is not None:
                (out / self.folder / file).write_text(json.dumps(content, indent=1) + "\n")
        metadata = dict(self.metadata, bits=json.dumps(self.bits), slices=json.dumps(self.slices))
        save(out / "expected" / f"{self.name}.safetensors", self.expected, metadata)


def dotted(case, prefix, shape, bits, form, table_key=".ct_scaled", entry=None, block=128):
    codes, norms, table, w = case.encode(shape, bits, "legacy-a", block)
    rows, blocks, _ = codes.shape
    if form == "bytes":
        case.tensors[prefix + ".codes"] = codes.reshape(rows, -1).view(np.int8)
    elif form == "lsb":
        case.tensors[prefix + ".codes"] = pack_lsb(codes.reshape(rows, -1), 5)
    else:
        case.tensors[prefix + (".codes_packed" if form == "notebook" else ".codes")] = pack_half(codes)
    case.tensors[prefix + ".norms"] = norms
    scale = np.float32(math.sqrt(block)) if table_key == ".ct_scaled" else np.float32(1)
    case.tensors[prefix + table_key] = table / scale
    if entry:
        case.entry(prefix, shape, bits, block, **entry(blocks * block, blocks, form))
    case.expect(prefix + ".weight", bits, w)


def package_entry(padded, blocks, form):
    entry = {"in_features_padded": padded, "n_blocks": blocks, "packed": form == "half", "scale_dtype": "float16"}
    return dict(entry, packed_q5=True) if form == "lsb" else entry


def package_config(case, version):
    return {"format": f"polar_engine_{version}", "quantization": "polarengine", "block_size": 128,
            "bit_assignment": {"down_proj": 4}, "layers": case.layers}


# The original's package: nibbles to 4 bits, bytes above; 8-bit codes wrap around in int8.
case = Case("polar_v4", "polar_v4", "legacy-a", "stored table")
case.plain()
for leaf, shape, bits, form in [("q_proj", (3, 200), 3, "half"), ("k_proj", (2, 256), 4, "half"),
                                ("v_proj", (2, 130), 2, "half"), ("o_proj", (3, 128), 6, "bytes"),
                                ("out_proj", (2, 128), 8, "bytes"), ("w1", (2, 128), 7, "bytes")]:
    dotted(case, ATTENTION + leaf, shape, bits, form, entry=package_entry)
case.finish(polar=package_config(case, "v4"))

# ... without packing, and without the configuration: shapes and tables say everything but the padding.
case = Case("polar_v4_bytes", "polar_v4", "legacy-a", "stored table")
for leaf, bits in [("q_proj", 3), ("k_proj", 5), ("v_proj", 4)]:
    dotted(case, ATTENTION + leaf, (2, 256), bits, "bytes")
case.finish(pad=1)

# ... with five bits as a little-endian stream.
case = Case("polar_v5", "polar_v5", "legacy-a", "stored table")
case.plain()
for leaf, shape, bits, form in [("q_proj", (3, 200), 5, "lsb"), ("k_proj", (2, 256), 5, "lsb"),
                                ("gate_proj", (2, 130), 3, "half"), ("o_proj", (2, 128), 6, "bytes")]:
    dotted(case, ATTENTION + leaf, shape, bits, form, entry=package_entry)
case.finish(polar=package_config(case, "v5"))

# Blocks of 256 and 64, as the configuration says.
for block in (64, 256):
    case = Case(f"polar_v5_block{block}", "polar_v5", "legacy-a", "stored table")
    dotted(case, ATTENTION + "q_proj", (2, 300), 5, "lsb", entry=package_entry, block=block)
    dotted(case, ATTENTION + "k_proj", (2, 300), 4, "half", entry=package_entry, block=block)
    case.finish(polar=dict(package_config(case, "v5"), block_size=block))

# The notebook of version 4: its own key for nibbles, its own name for the padded width.
case = Case("polar_v4_notebook", "polar_v4_notebook", "legacy-a", "stored table")
case.plain()
for leaf, shape, bits, form in [("q_proj", (3, 200), 4, "notebook"), ("k_proj", (2, 256), 3, "notebook"),
                                ("v_proj", (2, 140), 5, "bytes")]:
    dotted(case, ATTENTION + leaf, shape, bits, form, entry=lambda padded, blocks, form: {"in_f_padded": padded})
case.finish(polar={"format": "polar_engine_v4", "base_model": "none", "block_size": 128,
                   "results": {"tok_s": 1.5, "vram_gb": None, "ppl_wikitext2": 6.5, "gpu": "none"},
                   "layers": case.layers})

# The notebook of version 5: unscaled table, bytes, sorted keys in shards numbered from zero, with an index.
case = Case("polar_v5_notebook", "polar_v5_notebook", "legacy-a", "stored table")
case.plain()
for leaf, shape in [("q_proj", (3, 200)), ("k_proj", (2, 256))]:
    dotted(case, ATTENTION + leaf, shape, 5, "bytes", ".ct",
           lambda padded, blocks, form: {"in_f_padded": padded, "n_blocks": blocks})
shards = {f"model-0000{i}-of-00002.safetensors": (lambda key, i=i: (".q_proj" in key) == (i == 1)) for i in (0, 1)}
case.finish(polar={"format": "polar_engine_v5", "quantization": "free text", "bits": 5, "block_size": 128,
                   "layers": case.layers}, files=shards, order=True)
index = {key: file for file, belongs in shards.items() for key in case.tensors if belongs(key)}
(out / case.folder / "model.safetensors.index.json").write_text(
    json.dumps({"metadata": {"total_size": 0}, "weight_map": index}, indent=1) + "\n")


def dunder(case, base, name, shape, bits, book, slice_of=None, dtype=np.int8):
    codes, norms, _, w = case.encode(shape, bits, book)
    case.tensors[base + "__codes"] = codes.reshape(shape[0], -1).view(dtype)
    case.tensors[base + "__norms"] = norms
    case.expect(name, bits, w, slice_of)


# Mangled names, no table, no width: each from its largest code, the table from statistics, columns from config.json.
case = Case("dunder", "dunder", "legacy-a", "fingerprint")
case.plain()
for leaf, cols, dtype in [("q_proj", 200, np.int8), ("o_proj", 384, np.uint8)]:
    name = f"model.layers.0.self_attn.{leaf}.weight"
    dunder(case, name.replace(".", "__"), name, (16, cols), 5, "legacy-a", dtype=dtype)
case.finish(config={"model_type": "x", "text_config": {"hidden_size": 200, "num_attention_heads": 6, "head_dim": 64}})

# The same below the width at which statistics can tell, and a width that is recorded.
case = Case("dunder_narrow", "dunder", "legacy-b", "default")
dunder(case, "model__layers__0__mlp__down_proj__weight", "model.layers.0.mlp.down_proj.weight", (4, 256), 3, "legacy-b")
case.finish()
case = Case("dunder_bits", "dunder", "converged", "recorded")
dunder(case, "model__layers__0__mlp__down_proj__weight", "model.layers.0.mlp.down_proj.weight", (4, 256), 6, "converged")
case.finish(polar={"bits": 6, "block_size": 128, "codebook": "converged"})


def packed(case, base, name, shape, bits, book, meta, slice_of=None, block=128):
    codes, norms, _, w = case.encode(shape, bits, book, block)
    rows, blocks, _ = codes.shape
    case.tensors[base + "__packed"] = pack_msb(codes.reshape(-1), bits)
    case.tensors[base + "__norms"] = norms
    numbers = {"rows": [rows, blocks, block, codes.size], "rows and columns": [rows, blocks, block, codes.size, shape[1]],
               "bits": [bits, blocks * block, block, codes.size], "two": [bits, blocks * block]}[meta]
    case.tensors[base + "__meta"] = np.array(numbers, dtype=np.int32 if meta == "two" else np.int64)
    case.expect(name, bits, w, slice_of)


def fused_slice(leaf, index, folder=EXPERTS):
    return f"{folder}{index}.{leaf}.weight", [folder + leaf, index]


# One folder per width, plain tensors in a file of their own, expert slices with a suffix, no columns.
for bits in range(2, 9):
    # At 7 and 8 bits the tables differ only where these few codes hardly ever are.
    source = "fingerprint" if bits in (5, 6) else "default"
    case = Case(f"multi_pq{bits}", "multi", "legacy-b", source, f"multi/PQ{bits}")
    case.plain()
    name = ATTENTION + "q_proj.weight"
    packed(case, name.replace(".", "__"), name, ({5: 24, 6: 48}.get(bits, 3), 256), bits, "legacy-b", "rows")
    if bits in (3, 5):
        for leaf in ("gate_up_proj", "down_proj"):
            for e in range(2):
                target, slice_of = fused_slice(leaf, e)
                base = (EXPERTS + leaf).replace(".", "__") + f"_e{e}"
                packed(case, base, target, (2, 128), bits, "legacy-b", "rows", slice_of)
    case.finish(files={"codes.safetensors": lambda key: "__" in key, "bf16.safetensors": lambda key: "__" not in key})

# What the latest reader of the original reads, with the columns in meta, made with table B and nothing recorded.
case = Case("hlwq_q5", "hlwq", "legacy-b", "fingerprint")
case.plain()
packed(case, ATTENTION + "q_proj.weight", ATTENTION + "q_proj.weight", (20, 200), 5, "legacy-b", "rows and columns")
for leaf in ("gate_up_proj", "down_proj"):
    for e in range(3):
        target, slice_of = fused_slice(leaf, e)
        packed(case, target, target, (4, 200), 5, "legacy-b", "rows and columns", slice_of)
case.finish(polar={"format": "hlwq-q5", "block_size": 128})

# Mixed widths and blocks, a recorded table, meta in every reading, data at an odd offset.
case = Case("hlwq_mixed", "hlwq", "legacy-a", "recorded")
for leaf, bits, block, meta in [("q_proj", 3, 128, "rows"), ("k_proj", 5, 64, "bits"), ("v_proj", 4, 256, "two"),
                                ("o_proj", 7, 32, "rows and columns"), ("w2", 2, 128, "bits")]:
    name = ATTENTION + leaf + ".weight"
    packed(case, name, name, (2, 256), bits, "legacy-a", meta, block=block)
    case.entry(ATTENTION + leaf, (2, 256), bits, block)
case.tensors = {"odd": np.zeros(3, dtype=np.uint8), **case.tensors}
case.expected["odd"] = np.zeros(3, dtype=np.float32)
case.finish(polar={"format": "hlwq", "codebook": "legacy-a", "layers": case.layers}, pad=1)

# The converged table at the width of its greatest gain.
case = Case("hlwq_converged", "hlwq", "converged", "recorded")
name = ATTENTION + "q_proj.weight"
packed(case, name, name, (3, 256), 6, "converged", "rows and columns")
case.finish(polar={"format": "hlwq-q6", "block_size": 128, "codebook": "converged", "bits": 6})

# Every spelling of a slice.
case = Case("slice_spellings", "multi", "legacy-b", "default")
mangled = lambda text: text.replace(".", "__")
folders = ["model.language_model.layers.0.mlp.experts.", "model.layers.1.mlp.experts.", "layers.2.mlp.experts."]
spellings = [lambda f, leaf, e: mangled(f + leaf) + f"_e{e}",
             lambda f, leaf, e: mangled(f + leaf) + f"_e{e}.weight",
             lambda f, leaf, e: f"{f}{leaf}_e{e}",
             lambda f, leaf, e: f"{f}{leaf}_e{e}.weight",
             lambda f, leaf, e: f"{f}{leaf}.{e}.weight",
             lambda f, leaf, e: f"{f}{leaf}.{e}",
             lambda f, leaf, e: f"{f}{e}.{leaf}.weight",
             lambda f, leaf, e: f"{f}{e}.{leaf}",
             lambda f, leaf, e: mangled(f"{f}{e}.{leaf}.weight"),
             lambda f, leaf, e: mangled(f"{f}{leaf}.{e}.weight"),
             lambda f, leaf, e: mangled(f + leaf) + f"__weight_e{e}"]
for folder in folders:
    for e, spell in enumerate(spellings):
        for leaf in ("gate_up_proj", "down_proj"):
            target, slice_of = fused_slice(leaf, e, folder)
            packed(case, spell(folder, leaf, e), target, (1, 128), 4, "legacy-b", "rows and columns", slice_of)
case.finish()

# Experts of their own: gate and up apart, so that down is no slice.
case = Case("single_experts", "hlwq", "legacy-b", "default")
for e in range(2):
    for leaf in ("gate_proj", "up_proj", "down_proj"):
        name = f"{EXPERTS}{e}.{leaf}.weight"
        packed(case, name, name, (1, 128), 4, "legacy-b", "rows and columns")
case.finish(polar={"format": "hlwq-q4", "block_size": 128})

# Nothing recorded, table A, few codes; what the five-bit matrix tells holds for the three-bit one.
case = Case("hlwq_few_codes", "hlwq", "legacy-a", "fingerprint")
for leaf, shape, bits in [("q_proj", (20, 256), 5), ("k_proj", (2, 256), 3)]:
    name = ATTENTION + leaf + ".weight"
    packed(case, name, name, shape, bits, "legacy-a", "rows and columns")
case.finish(polar={"format": "hlwq", "block_size": 128})
