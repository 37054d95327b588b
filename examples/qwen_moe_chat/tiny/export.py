#!/usr/bin/env python3
"""Write a training checkpoint as a Hugging Face style directory: BF16, published tensor names, configuration, tokenizer."""
from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model import Config, Model
from train_tokenizer import SPECIAL

SAME_NAME = ("vocab_size", "hidden_size", "num_hidden_layers", "full_attention_interval", "num_attention_heads", "num_key_value_heads",
             "head_dim", "linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
             "linear_conv_kernel_dim", "num_experts", "num_experts_per_tok", "moe_intermediate_size",
             "shared_expert_intermediate_size", "rms_norm_eps")
LONGEST = 4096


def load(checkpoint: Path) -> Model:
    """Model of a training checkpoint, its weights rounded to BF16 as they are shipped."""
    state = torch.load(checkpoint, map_location="cpu")
    model = Model(Config(**state["config"]))
    model.load_state_dict(state["model"])
    for p in model.parameters():
        p.data = p.data.bfloat16().float()
    return model


def tensors(model: Model) -> dict[str, Tensor]:
    """Published names to tensors; fused projections of the training model are cut apart."""
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm, "lm_head.weight": model.head}
    for i, block in enumerate(model.blocks):
        layer, mixer, moe = f"model.layers.{i}.", block.mixer, block.moe
        out[layer + "input_layernorm.weight"], out[layer + "post_attention_layernorm.weight"] = block.norm1, block.norm2
        if model.config.is_full(i):
            prefix = layer + "self_attn."
            for name, w in zip(("q_proj", "k_proj", "v_proj"), mixer.qkv.split(mixer.sizes)):
                out[f"{prefix}{name}.weight"] = w
            out |= {prefix + "o_proj.weight": mixer.o_proj, prefix + "q_norm.weight": mixer.q_norm, prefix + "k_norm.weight": mixer.k_norm}
        else:
            prefix = layer + "linear_attn."
            for name, w in zip(("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"), mixer.in_proj.split(mixer.sizes)):
                out[f"{prefix}{name}.weight"] = w
            out |= {prefix + "conv1d.weight": mixer.conv[:, None], prefix + "A_log": mixer.A_log, prefix + "dt_bias": mixer.dt_bias,
                    prefix + "norm.weight": mixer.norm, prefix + "out_proj.weight": mixer.out_proj}
        prefix = layer + "mlp."
        gate, up = moe.shared_gate_up.chunk(2)
        out |= {prefix + "gate.weight": moe.gate, prefix + "experts.gate_up_proj": moe.gate_up, prefix + "experts.down_proj": moe.down,
                prefix + "shared_expert.gate_proj.weight": gate, prefix + "shared_expert.up_proj.weight": up,
                prefix + "shared_expert.down_proj.weight": moe.shared_down, prefix + "shared_expert_gate.weight": moe.shared_gate}
    return {name: w.detach().contiguous().clone() for name, w in out.items()}


def config_json(c: Config, ids: dict[str, int]) -> dict:
    """The text-only configuration."""
    frequencies = int(c.head_dim * c.partial_rotary_factor) // 2
    return {
        "architectures": ["Qwen3_5MoeForCausalLM"], "model_type": "qwen3_5_moe_text",
        **{name: getattr(c, name) for name in SAME_NAME},
        "layer_types": ["full_attention" if c.is_full(i) else "linear_attention" for i in range(c.num_hidden_layers)],
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta, "partial_rotary_factor": c.partial_rotary_factor,
                            "mrope_section": [(frequencies + 2) // 3, (frequencies + 1) // 3, frequencies // 3], "mrope_interleaved": True},
        "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "attn_output_gate": True,
        "max_position_embeddings": LONGEST, "initializer_range": 0.02, "use_cache": True, "tie_word_embeddings": False,
        "mamba_ssm_dtype": "float32", "router_aux_loss_coef": 0.01, "output_router_logits": False, "mtp_num_hidden_layers": 0,
        "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"], "dtype": "bfloat16",
    }


def write(model: Model, tokenizer: Path, template: Path, out: Path) -> None:
    """Write the whole model directory."""
    out.mkdir(parents=True, exist_ok=True)
    ids = {t["content"]: t["id"] for t in json.loads(tokenizer.read_text())["added_tokens"]}

    def dump(name: str, content: dict) -> None:
        (out / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    save_file({name: w.bfloat16() for name, w in tensors(model).items()}, str(out / "model.safetensors"), metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    dump("config.json", config_json(model.config, ids))
    dump("generation_config.json", {"do_sample": False, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
                                    "pad_token_id": ids["<|endoftext|>"]})
    dump("tokenizer_config.json", {
        "added_tokens_decoder": {str(i): {"content": t, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False,
                                          "special": t in SPECIAL} for t, i in ids.items()},
        "add_bos_token": False, "add_prefix_space": False, "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "unk_token": None, "clean_up_tokenization_spaces": False, "model_max_length": LONGEST, "tokenizer_class": "Qwen2Tokenizer",
    })
    for source, name in ((tokenizer, "tokenizer.json"), (template, "chat_template.jinja")):
        if source.resolve() != (out / name).resolve():
            shutil.copyfile(source, out / name)


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=here / "model/tokenizer.json")
    parser.add_argument("--template", type=Path, default=here / "model/chat_template.jinja")
    parser.add_argument("--out", type=Path, default=here / "model")
    arguments = parser.parse_args()
    write(load(arguments.checkpoint), arguments.tokenizer, arguments.template, arguments.out)


if __name__ == "__main__":
    main()
