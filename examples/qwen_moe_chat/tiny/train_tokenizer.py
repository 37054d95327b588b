#!/usr/bin/env python3
"""Train the byte-level BPE on generated text and write tokenizer.json in the published layout."""
from __future__ import annotations

import argparse
import string

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from generator import Generator

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<think>", "</think>"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--vocabulary", type=int, default=1024, help="entries without the five added tokens")
    parser.add_argument("--documents", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    texts = [message["content"] if "content" in message else message["text"]
             for document in Generator(arguments.seed, False).documents(arguments.documents) for message in document.get("messages", [document])]
    # Roles and spelled letters occur in every chat but not in these texts, or too rarely to become entries.
    texts += ["system\nuser\nassistant\n"] * 20000 + ["-" + "-".join(string.ascii_lowercase)] * 2000
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=arguments.vocabulary, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[]))
    tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in SPECIAL])
    tokenizer.add_tokens([AddedToken(s, normalized=False, special=False) for s in PLAIN])
    tokenizer.save(arguments.out)
    print("entries:", tokenizer.get_vocab_size())


if __name__ == "__main__":
    main()
