#!/usr/bin/env python3
"""Logits of the embedded model as Hugging Face transformers computes them (float32), for the first ids of heldout.txt."""
from __future__ import annotations

import argparse
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=here / "model")
    parser.add_argument("--count", type=int, default=160, help="ids")
    parser.add_argument("--out", type=Path, default=here.parents[2] / "tests/data/embedded/logits.safetensors")
    arguments = parser.parse_args()
    ids = Tokenizer.from_file(str(arguments.model / "tokenizer.json")).encode((here / "heldout.txt").read_text()).ids[:arguments.count]
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({"ids": torch.tensor(ids), "logits": logits.contiguous()}, str(arguments.out),
              metadata={"transformers": transformers.__version__, "torch": torch.__version__})
    print(f"{len(ids)} ids, largest logit {float(logits.abs().max()):.3f}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
