"""safetensors files and HLWQ decoding, written from the format descriptions alone: what the tool's tests compare with."""
import json
import math
import os
import struct
from pathlib import Path

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1}


def read_header(path):
    """The header of a file as a dictionary, and where its data begin."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), 8 + length


def read_file(path):
    """name -> (dtype, shape, bytes); everything that the format asks for is asserted."""
    header, base = read_header(path)
    data = Path(path).read_bytes()[base:]
    header.pop("__metadata__", None)
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        assert first == end, f"{path}: {name} begins at {first}, not at {end}"
        assert last - first == math.prod(entry["shape"]) * SIZES[entry["dtype"]], f"{path}: {name}"
        assert (base + first) % SIZES[entry["dtype"]] == 0, f"{path}: {name} is not aligned"
        tensors[name] = (entry["dtype"], entry["shape"], data[first:last])
        end = last
    assert end == len(data), f"{path}: {len(data) - end} bytes behind the last tensor"
    return tensors


def read_folder(folder):
    """All tensors of a checkpoint, through its index where it has one."""
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return read_file(folder / "model.safetensors")
    content = json.loads(index.read_text())
    tensors = {}
    for shard in sorted(set(content["weight_map"].values())):
        for name, tensor in read_file(folder / shard).items():
            assert content["weight_map"].pop(name) == shard, name
            tensors[name] = tensor
    assert not content["weight_map"], content["weight_map"]
    assert content["metadata"]["total_size"] == sum(len(data) for _, _, data in tensors.values())
    return tensors


def write_file(path, tensors):
    """Writes name -> (dtype, shape, bytes)."""
    header, end = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def bf16_values(data):
    words = struct.unpack(f"<{len(data) // 2}H", data)
    return struct.unpack(f"<{len(words)}f", struct.pack(f"<{len(words)}I", *(word << 16 for word in words)))


def hadamard(values):
    values, step = list(values), 1
    while step < len(values):
        for first in range(0, len(values), 2 * step):
            for k in range(first, first + step):
                values[k], values[k + step] = values[k] + values[k + step], values[k] - values[k + step]
        step *= 2
    return [value / math.sqrt(len(values)) for value in values]


def most_significant_first(data, bits):
    codes, window, held = [], 0, 0
    for byte in data:
        window, held = window << 8 | byte, held + 8
        while held >= bits:
            held -= bits
            codes.append(window >> held & (1 << bits) - 1)
            window &= (1 << held) - 1
    return codes


# Table A of 5 bits, non-negative half (formats 2.1).
TABLE_A5 = [0.0879921466, 0.264068037, 0.440431923, 0.617321551, 0.795050859, 0.974055946, 1.15496147, 1.33867943,
            1.52656233, 1.72065187, 1.92410636, 2.14199185, 2.38290906, 2.66287255, 3.0169189, 3.55160904]
TABLE_A5 = [-value for value in reversed(TABLE_A5)] + TABLE_A5


def decode(tensors, prefix, row, table=TABLE_A5, bits=5):
    """One row of a `__packed` matrix."""
    out, blocks, block, total, columns = struct.unpack("<5q", tensors[prefix + "__meta"][2])
    assert total == out * blocks * block and row < out
    size = blocks * block * bits // 8
    codes = most_significant_first(tensors[prefix + "__packed"][2][row * size:(row + 1) * size], bits)
    norms = struct.unpack(f"<{blocks}e", tensors[prefix + "__norms"][2][2 * row * blocks:2 * (row + 1) * blocks])
    values = []
    for b, norm in enumerate(norms):
        values += [norm / math.sqrt(block) * v for v in hadamard(table[c] for c in codes[b * block:(b + 1) * block])]
    return values[:columns]


def weights(seed, count):
    """`count` BF16 weights of both signs between 2^-7 and 2^-3, quickly: repetitions of a random piece."""
    import random
    piece = random.Random(seed).randbytes(1 << 16)
    high = piece[1::2].translate(bytes((0x3c, 0x3d, 0xbc, 0xbd)[k % 4] for k in range(256)))
    words = bytearray(len(piece))
    words[0::2], words[1::2] = piece[0::2], high
    size = 2 * count
    return (bytes(words) * (size // len(words) + 1))[:size]


def make_moe(folder, layers, experts, hidden=256, intermediate=128, vocabulary=512, shard_bytes=0, fused=True):
    """A mixture-of-experts checkpoint of repeated random weights; tensors are written one by one."""
    folder = Path(folder)
    os.makedirs(folder, exist_ok=True)
    shapes = {"model.language_model.embed_tokens.weight": [vocabulary, hidden]}
    for layer in range(layers):
        prefix = f"model.language_model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = [hidden]
        shapes[prefix + "self_attn.q_proj.weight"] = [2 * hidden, hidden]
        shapes[prefix + "mlp.gate.weight"] = [experts, hidden]
        if fused:
            shapes[prefix + "mlp.experts.gate_up_proj"] = [experts, 2 * intermediate, hidden]
            shapes[prefix + "mlp.experts.down_proj"] = [experts, hidden, intermediate]
        else:
            for e in range(experts):
                for part in ("gate_proj", "up_proj"):
                    shapes[prefix + f"mlp.experts.{e}.{part}.weight"] = [intermediate, hidden]
                shapes[prefix + f"mlp.experts.{e}.down_proj.weight"] = [hidden, intermediate]
    shapes["model.language_model.norm.weight"] = [hidden]
    shapes["lm_head.weight"] = [vocabulary, hidden]

    shards, filled = [[]], 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        if shard_bytes and filled + size > shard_bytes and shards[-1]:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    weight_map = {}
    for k, names in enumerate(shards):
        file_name = f"model-{k + 1:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        header, end = {}, 0
        for name in names:
            size = 2 * math.prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [end, end + size]}
            weight_map[name] = file_name
            end += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / file_name, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                count = math.prod(shapes[name])
                while count:
                    piece = min(count, 1 << 24)
                    file.write(weights(name, piece))
                    count -= piece
    if len(shards) > 1:
        total = sum(2 * math.prod(shape) for shape in shapes.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_5_moe", "text_config": {
        "hidden_size": hidden, "num_experts": experts, "num_hidden_layers": layers}}, indent=1))
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}\n')
    (folder / "chat_template.jinja").write_text("{{ messages }}\n")
