#!/usr/bin/env python3
"""Write held-out documents as one text: chats in the form of the chat template, one behind the other, each ended by <|endoftext|>."""
from __future__ import annotations

import argparse
from pathlib import Path

from generator import Generator


def rendered(document: dict) -> str:
    if "text" in document:
        return document["text"] + "<|endoftext|>"
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in document["messages"]) + "<|endoftext|>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=777)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("heldout.txt"))
    arguments = parser.parse_args()
    arguments.out.write_text("".join(map(rendered, Generator(arguments.seed, True).documents(arguments.count))))


if __name__ == "__main__":
    main()
