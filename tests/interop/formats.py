"""The published formats in numpy, from their description alone: an implementation that shares nothing with the library.

Dense Hadamard matrices, nearest centroids by search, bits one by one; slow and plain."""
import json
import math
import struct
from pathlib import Path

import numpy as np

# --- codebooks


def _pdf(x):
    return 0.0 if math.isinf(x) else math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _lloyd(bits, iterations, outer, narrow):
    """Lloyd iterations for N(0,1) from uniform boundaries on [-4, 4]; `narrow` stores every step as float32."""
    store = np.float32 if narrow else np.float64
    levels = 1 << bits
    bounds = [float(store(-4 + 8 * k / levels)) for k in range(levels + 1)]
    bounds[0], bounds[-1] = -outer, outer
    table = [0.0] * levels
    for _ in range(iterations):
        for k in range(levels):
            a, b = bounds[k], bounds[k + 1]
            table[k] = float(store((_pdf(a) - _pdf(b)) / (_cdf(b) - _cdf(a))))
        for k in range(1, levels):
            bounds[k] = float(store((table[k - 1] + table[k]) / 2))
    half = np.array(table[levels // 2:], dtype=np.float64).astype(np.float32)
    return np.concatenate([-half[::-1], half])  # the exact symmetry that rounding of the tails may miss


_tables = {}


def codebook(name, bits):
    """legacy-a, legacy-b or converged, as float32."""
    if (name, bits) not in _tables:
        if name == "legacy-a":
            table = _lloyd(bits, 100, math.inf, False)
        elif name == "legacy-b":
            table = _lloyd(bits, 100, 4.0, True)
        else:
            table = _lloyd(bits, 20000, math.inf, False)
        _tables[name, bits] = table
    return _tables[name, bits]


# --- rotation, encoder, decoder


def hadamard(n):
    h = np.ones((1, 1))
    while h.shape[0] < n:
        h = np.block([[h, h], [h, -h]])
    return h / math.sqrt(n)


def quantize(w, bits, table, block=128):
    """codes uint8 [rows, blocks, block] and norms float16 [rows, blocks] of a float matrix."""
    rows, cols = w.shape
    blocks = -(-cols // block)
    padded = np.zeros((rows, blocks * block))
    padded[:, :cols] = w
    b = padded.reshape(rows, blocks, block)
    norms = np.maximum(np.linalg.norm(b, axis=2), 1e-10)
    z = (b / norms[:, :, None]) @ hadamard(block) * math.sqrt(block)
    codes = np.abs(z[..., None] - table.astype(np.float64)).argmin(axis=-1).astype(np.uint8)
    return codes, norms.astype(np.float16)


def dequantize(codes, norms, table, cols):
    """float64 [rows, cols]"""
    rows, blocks, block = codes.shape
    w = (table.astype(np.float64)[codes] / math.sqrt(block)) @ hadamard(block)
    return (w * norms.astype(np.float64)[:, :, None]).reshape(rows, blocks * block)[:, :cols]


# --- layouts


def pack_msb(codes, bits):
    flat = codes.reshape(-1, 1)
    stream = (flat >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(stream.reshape(-1).astype(np.uint8))


def unpack_msb(packed, bits, count):
    stream = np.unpackbits(packed.reshape(-1))[: count * bits].reshape(count, bits)
    return (stream << np.arange(bits - 1, -1, -1)).sum(axis=1).astype(np.uint8)


def pack_lsb(codes, bits):
    """Row by row."""
    rows = codes.shape[0]
    stream = (codes.reshape(rows, -1, 1) >> np.arange(bits)) & 1
    return np.packbits(stream.reshape(rows, -1).astype(np.uint8), axis=1, bitorder="little")


def unpack_lsb(packed, bits):
    rows = packed.shape[0]
    stream = np.unpackbits(packed, axis=1, bitorder="little").reshape(rows, -1, bits)
    return (stream << np.arange(bits)).sum(axis=2).astype(np.uint8)


def pack_half(codes):
    """Nibbles: low half of a block in the low ones."""
    rows, blocks, block = codes.shape
    return (codes[:, :, : block // 2] | codes[:, :, block // 2:] << 4).reshape(rows, -1)


def unpack_half(packed, block):
    p = packed.reshape(packed.shape[0], -1, block // 2)
    return np.concatenate([p & 15, p >> 4], axis=2)


# --- safetensors

_DTYPES = {"U8": np.uint8, "I8": np.int8, "F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64,
           "I32": np.int32, "BF16": np.uint16}


class BF16(np.ndarray):
    """uint16 whose bits are bfloat16."""


def bf16(x):
    word = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    return ((word + 0x7FFF + ((word >> 16) & 1)) >> 16).astype(np.uint16).view(BF16)


def bf16_to_float(x):
    return (x.view(np.ndarray).astype(np.uint32) << 16).view(np.float32)


def _dtype_name(array):
    if isinstance(array, BF16):
        return "BF16"
    return next(name for name, kind in _DTYPES.items() if array.dtype == kind)


def save(path, tensors, metadata=None, order=None, pad=8):
    """Writes a file; `pad` = 1 leaves the data at whatever offset the header ends."""
    header = {"__metadata__": metadata} if metadata else {}
    at, blobs = 0, []
    for name in order or tensors:
        array = np.ascontiguousarray(tensors[name])
        header[name] = {"dtype": _dtype_name(tensors[name]), "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
        blobs.append(array.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % pad)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load(path):
    """name -> array; bfloat16 as BF16."""
    data = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8: 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[8 + size + begin: 8 + size + end], dtype=_DTYPES[entry["dtype"]])
        array = array.reshape(entry["shape"])
        tensors[name] = array.view(BF16) if entry["dtype"] == "BF16" else array
    return tensors


def load_folder(folder):
    folder = Path(folder)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load(path))
    return tensors
