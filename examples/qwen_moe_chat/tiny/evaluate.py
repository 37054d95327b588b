#!/usr/bin/env python3
"""Greedy answers of a checkpoint to the published prompts, exact matches on held-out exercises, perplexity of heldout.txt.

A line of prompts.txt is the user's turns separated by " >> ", a tab, and what the last answer must contain ("|" or, "&" and).
"""
from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch.nn import functional as F

from data import LONGEST, Encoder
from export import load
from generator import Generator
from model import Config, Model

HERE = Path(__file__).parent
TOPICS = ("add_sub", "times", "word_sum", "numbers", "fact", "calendar", "yes_no", "library", "small_talk", "unknown", "garbage", "spelling", "names", "follow_up", "repeat")


@torch.no_grad()
def answers(model: Model, encoder: Encoder, chats: list[list[dict]], limit: int = 160) -> list[str]:
    """Greedy continuation of every chat; the whole sequence is computed again for each token."""
    rows = [encoder({"messages": chat})[0] + encoder.head["assistant"] for chat in chats]
    start, alive = [len(row) for row in rows], set(range(len(rows)))
    for _ in range(limit):
        chosen = sorted(alive)
        length = Config.padded(max(len(rows[i]) for i in chosen))
        ids = torch.tensor([rows[i] + [encoder.stop] * (length - len(rows[i])) for i in chosen])
        last = torch.tensor([n * length + len(rows[i]) - 1 for n, i in enumerate(chosen)])
        for i, token in zip(chosen, model(ids, last)[0].argmax(-1).tolist()):
            if token in (encoder.end, encoder.stop):
                alive.remove(i)
            else:
                rows[i].append(token)
        if not alive:
            break
    return [encoder.tokenizer.decode(row[s:], skip_special_tokens=False) for row, s in zip(rows, start)]


def matches(answer: str, wanted: str) -> bool:
    low = answer.lower()
    return all(any(word in low for word in part.split("|")) for part in wanted.lower().split("&"))


def published(model: Model, encoder: Encoder, prompts: Path) -> None:
    """Print the answers to the published prompts."""
    right = total = 0
    for line in prompts.read_text().splitlines():
        if not line or line.startswith("#"):
            print(line)
            continue
        turns, wanted = line.split("\t")
        chat: list[dict] = []
        for turn in turns.split(" >> "):
            chat.append({"role": "user", "content": turn})
            reply = answers(model, encoder, [chat])[0]
            chat.append({"role": "assistant", "content": reply})
        good = matches(reply, wanted)
        right, total = right + good, total + 1
        print(f"{'ok   ' if good else 'WRONG'} {turns}\n      {reply}")
    print(f"prompts: {right} of {total}")


def exercises(model: Model, encoder: Encoder, topic: str, count: int, shown: int) -> None:
    """Ask held-out exercises of one topic and compare the last answer letter by letter."""
    generator = Generator(12345, True)
    documents = [getattr(generator, topic)() for _ in range(count)]
    chats = [[{"role": role, "content": text} for turn in document for role, text in zip(("user", "assistant"), turn)][:-1] for document in documents]
    got = answers(model, encoder, chats, 100)
    wrong = [(chat[-1]["content"], g, document[-1][1]) for chat, g, document in zip(chats, got, documents) if g != document[-1][1]]
    print(f"{topic}: {count - len(wrong)} of {count}", flush=True)
    for question, g, wanted in wrong[:shown]:
        print(f"      {question} -> {g} (not {wanted})")


@torch.no_grad()
def perplexity(model: Model, encoder: Encoder, text: Path) -> tuple[float, int]:
    """Perplexity of a text cut into pieces of 512 ids, each from an empty state; the first id of a piece is not predicted."""
    ids = encoder.tokenizer.encode(text.read_text()).ids
    ids = torch.tensor(ids[:len(ids) // LONGEST * LONGEST]).view(-1, LONGEST)
    total = 0.0
    for piece in ids.split(8):
        logits = model(piece)[0].view(*piece.shape, -1)
        total += float(F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), piece[:, 1:].reshape(-1), reduction="sum"))
    count = ids[:, 1:].numel()
    return math.exp(total / count), count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=HERE / "model/tokenizer.json")
    parser.add_argument("--prompts", type=Path, default=HERE / "prompts.txt")
    parser.add_argument("--text", type=Path, default=HERE / "heldout.txt")
    parser.add_argument("--count", type=int, default=50, help="exercises for each topic")
    parser.add_argument("--shown", type=int, default=2, help="wrong answers to print for each topic")
    arguments = parser.parse_args()
    model, encoder = load(arguments.checkpoint), Encoder(arguments.tokenizer)
    published(model, encoder, arguments.prompts)
    print("perplexity of %s: %.4f (%d ids)" % (arguments.text.name, *perplexity(model, encoder, arguments.text)), flush=True)
    if arguments.count:
        for topic in TOPICS:
            exercises(model, encoder, topic, arguments.count, arguments.shown)


if __name__ == "__main__":
    main()
