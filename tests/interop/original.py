"""Meets the original's Python package: quantizes with it, or decodes with its loader and compares.

    original.py quantize CHECKPOINT OUT_DIR [--no-pack] [--bits B]
    original.py compare POLAR_DIR WEIGHTS_DIR
    original.py sample DIALECTS_DIR

`quantize` runs PolarQuantizer.quantize_model as it is. What it takes from `transformers` is a model with named
parameters in half precision; a stand-in hands over the tensors of the checkpoint instead, so that no model class and no
large dependency is needed. `compare` decodes every layer with PolarWeightLoader, the package's unpacking and its
Hadamard matrix, and prints the largest difference to the weights in WEIGHTS_DIR (dotted names, float32). `sample` made
tests/data/dialects/original: a few small matrices, quantized and decoded by the package."""
import argparse
import json
import shutil
import sys
import tempfile
import types
from pathlib import Path

import torch
from safetensors import safe_open

from polarengine_vllm.kernels.fwht import build_hadamard
from polarengine_vllm.loader import PolarWeightLoader, load_polar_config
from polarengine_vllm.packing import unpack_codes_half_block
from polarengine_vllm.quantizer import PolarQuantizer


def tensors_of(folder):
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            for key in file.keys():
                tensors[key] = file.get_tensor(key)
    return tensors


class Model:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.parameters = {name: torch.nn.Parameter(t.half(), requires_grad=False)
                           for name, t in tensors_of(folder).items()}
        self.config = self

    def eval(self):
        return self

    def named_parameters(self):
        return self.parameters.items()

    def save_pretrained(self, out):
        shutil.copy(self.folder / "config.json", out)


def quantize(options):
    stand_in = types.ModuleType("transformers")
    stand_in.AutoModelForCausalLM = types.SimpleNamespace(from_pretrained=lambda name, **_: Model(name))
    stand_in.AutoTokenizer = types.SimpleNamespace(from_pretrained=lambda name, **_: Model(name))
    sys.modules["transformers"] = stand_in
    assignment = {"": options.bits} if options.bits else None
    PolarQuantizer(bit_assignment=assignment).quantize_model(
        options.checkpoint, options.out, pack_int4=not options.no_pack, pack_q5=not options.no_pack)


def matrix(weights, name):
    """The weight of a layer; `A.experts.<e>.leaf` may be slice e of `A.experts.leaf`."""
    if name + ".weight" in weights:
        return weights[name + ".weight"]
    folder, expert, leaf = name.rsplit(".", 2)
    return weights[f"{folder}.{leaf}"][int(expert)]


def decoded_layers(folder, config):
    with PolarWeightLoader(folder, config) as loader:
        for name in loader.get_all_layer_names():
            parts = loader.load_layer_weights(name)
            codes, norms, table = parts["codes"], parts["norms"].float(), parts["ct_scaled"]
            block = config["layers"][name]["block_size"]
            if codes.dtype == torch.uint8:
                codes = unpack_codes_half_block(codes, block)
            values = table[codes.long()].view(codes.shape[0], -1, block)
            decoded = ((values @ build_hadamard(block)) * norms.unsqueeze(2)).reshape(codes.shape[0], -1)
            yield name, loader.get_layer_bits(name), decoded


def sample(options):
    from safetensors.torch import save_file
    out = Path(options.out)
    torch.manual_seed(7)
    names = {"self_attn.q_proj": (4, 200), "self_attn.o_proj": (3, 256), "mlp.gate_proj": (4, 128),
             "mlp.down_proj": (2, 300)}
    model = {f"model.layers.0.{leaf}.weight": torch.randn(shape) * 0.02 for leaf, shape in names.items()}
    model["model.norm.weight"] = torch.randn(16)
    with tempfile.TemporaryDirectory() as source:
        save_file(model, source + "/model.safetensors")
        Path(source, "config.json").write_text("{}")
        options.checkpoint, options.out, options.no_pack, options.bits = source, str(out / "original"), False, None
        quantize(options)
    config = load_polar_config(options.out)
    expected, bits = {"model.norm.weight": model["model.norm.weight"].half().float()}, {}
    for name, width, decoded in decoded_layers(options.out, config):
        expected[name + ".weight"] = decoded[:, : config["layers"][name]["in_features"]].contiguous()
        bits[name + ".weight"] = width
    metadata = {"folder": "original", "dialect": "polar_v5", "codebook": "legacy-a", "source": "stored table",
                "bits": json.dumps(bits), "slices": "{}"}
    save_file(expected, str(out / "expected" / "original.safetensors"), metadata)


def compare(options):
    config = load_polar_config(options.polar)
    weights = tensors_of(options.weights)
    largest, count, widths = 0.0, 0, {}
    for name, width, decoded in decoded_layers(options.polar, config):
        w = matrix(weights, name).float()
        assert decoded.shape[0] == w.shape[0] and decoded.shape[1] - w.shape[1] in range(config["block_size"]), name
        scale = w.norm(dim=1, keepdim=True).clamp(min=1e-30)
        largest = max(largest, float(((decoded[:, : w.shape[1]] - w).abs() / scale).max()))
        count += 1
        widths[width] = widths.get(width, 0) + 1
    widths = ", ".join(f"{n} of {b} bits" for b, n in sorted(widths.items()))
    print(f"{config['format']}: {count} matrices ({widths}), largest difference / row norm {largest:.3g}")
    # Two float32 transforms in different order, the table's scale rounded once more.
    sys.exit(0 if count > 0 and largest < 1.2e-6 else 1)


arguments = argparse.ArgumentParser()
commands = arguments.add_subparsers(required=True)
command = commands.add_parser("quantize")
command.add_argument("checkpoint")
command.add_argument("out")
command.add_argument("--no-pack", action="store_true")
command.add_argument("--bits", type=int)
command.set_defaults(run=quantize)
command = commands.add_parser("sample")
command.add_argument("out")
command.set_defaults(run=sample)
command = commands.add_parser("compare")
command.add_argument("polar")
command.add_argument("weights")
command.set_defaults(run=compare)
options = arguments.parse_args()
options.run(options)
