"""Documents to token ids, loss weights and batches."""
from __future__ import annotations

from pathlib import Path
from typing import Iterator

import torch
from tokenizers import Tokenizer
from torch import Tensor

from model import Config

USER_WEIGHT = 0.1       # of the loss on user and system turns, the assistant has 1
LONGEST = 512
Batch = tuple[Tensor, Tensor]
Row = tuple[list[int], list[float]]


class Encoder:
    """Documents to token ids and loss weights."""

    def __init__(self, tokenizer: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.start, self.end = self.tokenizer.token_to_id("<|im_start|>"), self.tokenizer.token_to_id("<|im_end|>")
        self.stop = self.tokenizer.token_to_id("<|endoftext|>")
        self.head = {role: [self.start, *self.tokenizer.encode(role + "\n").ids] for role in ("system", "user", "assistant")}
        self.newline = self.tokenizer.encode("\n").ids

    def __call__(self, document: dict) -> Row:
        if "text" in document:
            ids = self.tokenizer.encode(document["text"]).ids + [self.stop]
            return ids, [1.0] * len(ids)
        ids, weights = [], []
        for message in document["messages"]:
            weight = 1.0 if message["role"] == "assistant" else USER_WEIGHT
            body = self.tokenizer.encode(message["content"]).ids + [self.end]
            ids += self.head[message["role"]] + body + self.newline
            weights += [USER_WEIGHT] * len(self.head[message["role"]]) + [weight] * len(body) + [USER_WEIGHT] * len(self.newline)
        return ids, weights


def rows(documents: Iterator[dict], encoder: Encoder) -> Iterator[Row]:
    """One document a row; of every 60 documents 10 share one, separated by the end-of-text token, as in a file of many chats."""
    packed: Row = ([], [])
    for i, document in enumerate(documents):
        ids, weights = encoder(document)
        if i % 60 < 50:
            yield ids, weights
            continue
        if len(packed[0]) + len(ids) + 1 <= LONGEST:
            tail = [] if "text" in document else [encoder.stop]
            packed[0].extend(ids + tail)
            packed[1].extend(weights + [USER_WEIGHT] * len(tail))
        if i % 60 == 59:
            yield packed
            packed = ([], [])


def batches(documents: Iterator[dict], encoder: Encoder, tokens: int) -> Iterator[Batch]:
    """Batches of about `tokens` ids from rows of similar length; every batch has one padded length."""
    pool: dict[int, list[Row]] = {}
    for ids, weights in rows(documents, encoder):
        length = Config.padded(len(ids))
        if length > LONGEST:
            continue
        waiting = pool.setdefault(length, [])
        waiting.append((ids, weights))
        if len(waiting) * length >= tokens:
            yield (torch.tensor([i + [encoder.stop] * (length - len(i)) for i, _ in waiting]),
                   torch.tensor([w + [0.0] * (length - len(w)) for _, w in waiting]))
            pool[length] = []
