#!/usr/bin/env python3
"""Models and tables of compare_ik.sh.

template OUT             a GGUF file with the tensors of Qwen3.6-35B-A3B and random weights, but at most 256 rows each
widen SRC OUT            the same, quantized by the peer, with all rows: those of SRC again and again. The peer encodes
                         3 to 17 million weights a second and core, and how fast a model runs does not depend on values
table FOLDER             markdown from the results in FOLDER
fill FOLDER PAGE         the same, written between the marks of PAGE

--layers and --vocab of the first two are those of the model. `template` needs numpy.
"""
import argparse
import json
import os
import re
import statistics
import struct
from pathlib import Path

HIDDEN, EXPERTS, EXPERTS_USED, EXPERT_WIDTH = 2048, 256, 8, 512
HEADS, KV_HEADS, HEAD_DIM, ATTENTION_EVERY = 16, 2, 256, 4
KEY_HEADS, VALUE_HEADS, STATE_DIM, CONVOLUTION = 16, 32, 128, 4
TEMPLATE_ROWS, TEMPLATE_EXPERTS = 256, 8
ALIGN = 32

# ---- GGUF

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TYPE_F32, TYPE_F16 = 0, 1


def aligned(size):
    return (size + ALIGN - 1) // ALIGN * ALIGN


def product(shape):
    result = 1
    for n in shape:
        result *= n
    return result


def encode(kind, value):
    if kind == STRING:
        text = value if isinstance(value, bytes) else value.encode()
        return struct.pack("<Q", len(text)) + text
    if kind == ARRAY:
        item, items = value
        return struct.pack("<IQ", item, len(items)) + b"".join(encode(item, x) for x in items)
    return struct.pack(SCALARS[kind], value)


def write_header(file, entries, tensors):
    """entries (key, kind, value); tensors (name, shape with the fastest dimension first, type, bytes)"""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries))
    out += b"".join(encode(STRING, key) + struct.pack("<I", kind) + encode(kind, value) for key, kind, value in entries)
    offset = 0
    for name, shape, kind, size in tensors:
        out += encode(STRING, name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += aligned(size)
    file.write(out.ljust(aligned(len(out)), b"\0"))


def read_header(path):
    """entries, tensors {name: (shape, type, offset in the file, bytes)}"""
    with open(path, "rb") as file:
        read = lambda form: struct.unpack(form, file.read(struct.calcsize(form)))

        def value(kind):
            if kind == STRING:
                return file.read(read("<Q")[0])
            if kind == ARRAY:
                item, count = read("<IQ")
                return item, [value(item) for _ in range(count)]
            return read(SCALARS[kind])[0]

        if file.read(4) != b"GGUF":
            raise SystemExit(f"{path}: expected a GGUF file")
        _, tensor_count, entry_count = read("<IQQ")
        entries, found = [], []
        for _ in range(entry_count):
            key = value(STRING).decode()
            kind = read("<I")[0]
            entries.append((key, kind, value(kind)))
        for _ in range(tensor_count):
            name = value(STRING).decode()
            shape = list(read(f"<{read('<I')[0]}Q"))
            found.append((name, shape, *read("<IQ")))
        start = aligned(file.tell())
    found.sort(key=lambda tensor: tensor[3])
    ends = [tensor[3] for tensor in found[1:]] + [os.path.getsize(path) - start]
    return entries, {name: (shape, kind, start + offset, end - offset)
                     for (name, shape, kind, offset), end in zip(found, ends)}


# ---- the model


def vocabulary(count):
    """256 bytes in the alphabet of GPT-2, then names without meaning."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    letters.update({byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in letters)})
    tokens = [letters[byte] for byte in range(256)]
    tokens += [f"synth{i}" for i in range(count - len(tokens) - 2)] + ["<|endoftext|>", "<|im_end|>"]
    return [("tokenizer.ggml.model", STRING, "gpt2"),
            ("tokenizer.ggml.pre", STRING, "qwen35"),
            ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
            ("tokenizer.ggml.token_type", ARRAY, (I32, [1] * (count - 2) + [3, 3])),
            ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b", "c d", "e f"])),
            ("tokenizer.ggml.eos_token_id", U32, count - 1),
            ("tokenizer.ggml.padding_token_id", U32, count - 2),
            ("tokenizer.ggml.add_bos_token", BOOL, False)]


def configuration(layers, vocab):
    numbers = {"block_count": layers, "context_length": 262144, "embedding_length": HIDDEN,
               "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS,
               "attention.key_length": HEAD_DIM, "attention.value_length": HEAD_DIM,
               "attention.layer_norm_rms_epsilon": 1e-6, "rope.dimension_count": 64, "rope.freq_base": 1e7,
               "full_attention_interval": ATTENTION_EVERY, "ssm.conv_kernel": CONVOLUTION,
               "ssm.state_size": STATE_DIM, "ssm.group_count": KEY_HEADS, "ssm.time_step_rank": VALUE_HEADS,
               "ssm.inner_size": VALUE_HEADS * STATE_DIM, "expert_count": EXPERTS,
               "expert_used_count": EXPERTS_USED, "expert_feed_forward_length": EXPERT_WIDTH,
               "expert_shared_feed_forward_length": EXPERT_WIDTH, "vocab_size": vocab}
    entries = [("general.architecture", STRING, "qwen35moe"),
               ("general.name", STRING, f"random weights, {layers} layers"),
               ("general.alignment", U32, ALIGN), ("general.file_type", U32, 1),
               ("qwen35moe.rope.dimension_sections", ARRAY, (I32, [11, 11, 10, 0]))]
    entries += [("qwen35moe." + key, F32 if isinstance(value, float) else U32, value) for key, value in numbers.items()]
    return entries + vocabulary(vocab)


def tensors(layers, vocab):
    """(name, shape with the fastest dimension first, is a matrix of F16 or quantized weights)"""
    keys, values = KEY_HEADS * STATE_DIM, VALUE_HEADS * STATE_DIM
    yield "token_embd.weight", [HIDDEN, vocab], True
    yield "output_norm.weight", [HIDDEN], False
    yield "output.weight", [HIDDEN, vocab], True
    attention = [("attn_q.weight", [HIDDEN, 2 * HEADS * HEAD_DIM], True),
                 ("attn_k.weight", [HIDDEN, KV_HEADS * HEAD_DIM], True),
                 ("attn_v.weight", [HIDDEN, KV_HEADS * HEAD_DIM], True),
                 ("attn_output.weight", [HEADS * HEAD_DIM, HIDDEN], True),
                 ("attn_q_norm.weight", [HEAD_DIM], False), ("attn_k_norm.weight", [HEAD_DIM], False)]
    delta_net = [("attn_qkv.weight", [HIDDEN, 2 * keys + values], True), ("attn_gate.weight", [HIDDEN, values], True),
                 ("ssm_conv1d.weight", [CONVOLUTION, 2 * keys + values], False),
                 ("ssm_dt.bias", [VALUE_HEADS], False), ("ssm_a", [VALUE_HEADS], False),
                 ("ssm_beta.weight", [HIDDEN, VALUE_HEADS], True), ("ssm_alpha.weight", [HIDDEN, VALUE_HEADS], True),
                 ("ssm_norm.weight", [STATE_DIM], False), ("ssm_out.weight", [values, HIDDEN], True)]
    rest = [("attn_norm.weight", [HIDDEN], False), ("post_attention_norm.weight", [HIDDEN], False),
            ("ffn_gate_inp.weight", [HIDDEN, EXPERTS], False),
            ("ffn_gate_exps.weight", [HIDDEN, EXPERT_WIDTH, EXPERTS], True),
            ("ffn_up_exps.weight", [HIDDEN, EXPERT_WIDTH, EXPERTS], True),
            ("ffn_down_exps.weight", [EXPERT_WIDTH, HIDDEN, EXPERTS], True),
            ("ffn_gate_inp_shexp.weight", [HIDDEN], False),
            ("ffn_gate_shexp.weight", [HIDDEN, EXPERT_WIDTH], True),
            ("ffn_up_shexp.weight", [HIDDEN, EXPERT_WIDTH], True),
            ("ffn_down_shexp.weight", [EXPERT_WIDTH, HIDDEN], True)]
    for layer in range(layers):
        mixer = attention if (layer + 1) % ATTENTION_EVERY == 0 else delta_net
        for name, shape, matrix in mixer + rest:
            yield f"blk.{layer}.{name}", shape, matrix


def template_shape(shape, matrix):
    if not matrix:
        return shape
    if len(shape) == 3:
        return [shape[0], TEMPLATE_ROWS // TEMPLATE_EXPERTS, TEMPLATE_EXPERTS]
    return [shape[0], min(shape[1], TEMPLATE_ROWS)]


def write_template(args):
    import numpy as np

    random = np.random.default_rng(1)
    plan = []
    for name, shape, matrix in tensors(args.layers, args.vocab):
        shape = template_shape(shape, matrix)
        plan.append((name, shape, TYPE_F16 if matrix else TYPE_F32, product(shape) * (2 if matrix else 4)))
    with open(args.out, "wb") as file:
        write_header(file, configuration(args.layers, args.vocab), plan)
        for name, shape, kind, size in plan:
            x = random.standard_normal(product(shape), dtype=np.float32)
            if name.endswith("norm.weight"):
                x = 1 + 0.05 * x
            elif name.endswith("ssm_a"):
                x = -0.05 - np.abs(x)
            elif len(shape) > 1:
                x /= np.sqrt(shape[0])
            else:
                x *= 0.02
            file.write(x.astype(np.float16 if kind == TYPE_F16 else np.float32).tobytes().ljust(aligned(size), b"\0"))


def widen(args):
    entries, found = read_header(args.source)
    plan = []
    for name, shape, _ in tensors(args.layers, args.vocab):
        small, kind, offset, size = found[name]
        plan.append((name, shape, kind, size // product(small[1:]) * product(shape[1:]), offset, size))
    with open(args.out, "wb") as file, open(args.source, "rb") as source:
        write_header(file, entries, [tensor[:4] for tensor in plan])
        for *_, full, offset, size in plan:
            source.seek(offset)
            rows = source.read(size)
            for _ in range(full // size):
                file.write(rows)
            file.write(rows[: full % size])
            file.write(b"\0" * (aligned(full) - full))


# ---- results


class contender:
    """What was measured of one model: samples {column: [(median, min, max) of each process]}."""

    def __init__(self, name):
        self.name, self.samples = name, {}
        self.bits_per_weight = self.bytes_per_token = None

    def add(self, column, values):
        self.samples.setdefault(column, []).append((statistics.median(values), min(values), max(values)))

    def summary(self, column):
        found = self.samples.get(column)
        if not found:
            return None
        medians, least, most = zip(*found)
        return statistics.median(medians), min(least), max(most)


def sizes_of_ours(info):
    """Bits a weight of the whole file, bytes that one token reads, from `hlwq info --json`."""
    read = 0
    for kind in info["kinds"]:
        if kind["kind"] != "embed_tokens":
            read += kind["bytes"] * (EXPERTS_USED / EXPERTS if kind["kind"].startswith("experts.") else 1)
    return 8 * info["bytes"] / info["parameters"], read


def sizes_of_theirs(path):
    weights = total = read = 0
    for name, (shape, _, _, size) in read_header(path)[1].items():
        weights, total = weights + product(shape), total + size
        if name != "token_embd.weight":
            read += size * (EXPERTS_USED / EXPERTS if "_exps." in name else 1)
    return 8 * total / weights, read


def read_results(folder):
    """contenders in the order of the run, grouped by bits"""
    groups = {}
    for line in (folder / "contenders").read_text().splitlines():
        bits, name, path = line.split("\t")
        group = groups.setdefault(bits, {})
        if name in group:
            continue
        group[name] = c = contender(name)
        if name.startswith("hlwq"):
            c.bits_per_weight, c.bytes_per_token = sizes_of_ours(json.loads((folder / f"{name}.info").read_text()))
        else:
            c.bits_per_weight, c.bytes_per_token = sizes_of_theirs(path)
        for file in sorted(folder.glob(f"{name}@*")):
            point, threads, _ = file.name.split("@")[1:]
            if not file.suffix:
                read_file(c, point, threads, file.read_text())
    return groups


def read_file(c, point, threads, text):
    if point == "batch" and not text.lstrip().startswith(("{", "[")):  # the peer's batched bench prints a table
        for row in re.findall(r"^\|[ \d.|]+\|$", text, re.MULTILINE):
            prompt, _, sequences, _, _, prompt_speed, _, speed, *_ = row.strip("|").split("|")
            many = int(sequences)
            if int(prompt) >= 100:
                c.add(f"{many}×pp{int(prompt)}, {threads}T", [float(prompt_speed)])
            elif many > 1:
                c.add(f"{many}×tg, {threads}T", [float(speed)])
        return
    found = json.loads(text)
    if isinstance(found, dict):
        for run in found["runs"]:
            many = run.get("sequences", 1)
            if point == "batch" and many == 1 and run["kind"] == "tg":
                continue  # beside several; `short` has it
            kind = run["kind"] if run["kind"] == "tg" and many > 1 else f"{run['kind']}{run['tokens']}"
            if many > 1 or run["tokens"] == 400:
                kind = f"{many}×{kind}"
            depth = f" at {run['depth']}" if run["depth"] else ""
            c.samples.setdefault(f"{kind}{depth}, {threads}T", []).append((run["median"], run["min"], run["max"]))
    else:
        for run in found:
            kind = f"tg{run['n_gen']}" if run["n_gen"] else f"pp{run['n_prompt']}"
            depth = f" at {run['n_prompt']}" if run["n_gen"] and run["n_prompt"] else ""
            c.add(f"{kind}{depth}, {threads}T", run["samples_ts"])


def columns_of(group):
    names = list(dict.fromkeys(column for c in group.values() for column in c.samples))

    def order(column):
        point, threads = column.split(", ")
        return ("×" in point, " at " in point, point.startswith("pp"), point, threads)

    return sorted(names, key=order)


def markdown(rows):
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body]) + "\n"


def number(value):
    return f"{value:.0f}" if value >= 200 else f"{value:.1f}"


def table(folder):
    bandwidth = {}
    for line in (folder / "bandwidth").read_text().splitlines():
        threads, rate = line.split()
        bandwidth.setdefault(f"{threads}T", []).append(float(rate))
    out = (folder / "machine.md").read_text() + "\n"
    out += "Memory read bandwidth, GB/s, median (least, most) of this run: " + "; ".join(
        f"{threads} {statistics.median(rates):.1f} ({min(rates):.1f}, {max(rates):.1f})"
        for threads, rates in bandwidth.items()) + ".\n"
    others = sorted(float(file.read_text()) for file in folder.glob("*.others"))
    if others:
        out += f"Others took {statistics.median(others):.1f} % of the processors meanwhile, at most {others[-1]:.1f} %.\n"
    for bits, group in read_results(folder).items():
        columns = columns_of(group)
        rows = [["model", "bits/weight", "MB a token", *columns]]
        for c in group.values():
            cells = []
            for column in columns:
                s = c.summary(column)
                if s is None:
                    cells.append("–")
                    continue
                cell = f"**{number(s[0])}** ({number(s[1])}, {number(s[2])})"
                threads = column.split(", ")[1]
                if re.fullmatch(r"tg\d+, .*", column) and threads in bandwidth:
                    share = s[0] * c.bytes_per_token / 1e9 / statistics.median(bandwidth[threads])
                    cell += f" {100 * share:.0f} %"
                cells.append(cell)
            rows.append([c.name, f"{c.bits_per_weight:.2f}", f"{c.bytes_per_token / 1e6:.0f}", *cells])
        out += f"\n{bits} bits, tokens/s: **median** (least, most); tg also as the share of the bandwidth\n\n"
        out += markdown(rows)

        theirs = [c for c in group.values() if not c.name.startswith("hlwq")]
        ratios = [["speed of … over …", *columns]]
        for ours in (c for c in group.values() if c.name.startswith("hlwq")):
            for other in [*theirs, None]:
                cells = []
                for column in columns:
                    a = ours.summary(column)
                    b = [s for s in (c.summary(column) for c in ([other] if other else theirs)) if s]
                    median, _, most = zip(*b) if b else ([], [], [])
                    cells.append(f"**{a[0] / max(median):.2f}** ({a[2] / max(most):.2f})" if a and b else "–")
                ratios.append([f"{ours.name} / {other.name if other else '**their best**'}", *cells])
        if len(ratios) > 1 and theirs:
            out += "\nRatios, above 1: ours is faster; **of the medians** (of the fastest repetitions)\n\n" + markdown(ratios)
    return out


def fill(args):
    page = Path(args.page)
    begin, end = "<!-- last run -->", "<!-- end of last run -->"
    before, rest = page.read_text().split(begin + "\n", 1)
    after = rest.split(end, 1)[1]
    page.write_text(before + begin + "\n" + table(Path(args.folder)) + end + after)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run, arguments in [("template", write_template, ["out"]), ("widen", widen, ["source", "out"]),
                                 ("table", lambda args: print(table(Path(args.folder))), ["folder"]),
                                 ("fill", fill, ["folder", "page"])]:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        for argument in arguments:
            command.add_argument(argument)
        if name in ("template", "widen"):
            command.add_argument("--layers", type=int, default=4)
            command.add_argument("--vocab", type=int, default=32768)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
