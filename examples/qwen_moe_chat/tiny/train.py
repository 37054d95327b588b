#!/usr/bin/env python3
"""Train the tiny model on generated text for a given time: Muon for the matrices, AdamW for the rest.

The learning rate follows the share of the time that is used up, so that a run ends well on a machine of any speed. Resumable:
the same command again continues from the last checkpoint, with text of a fresh seed.
"""
from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from data import Batch, Encoder, batches
from generator import Generator
from model import Config, Model

BALANCE_WEIGHT = 0.01
WARM_UP_STEPS = 60
LAST_RATE = 0.02        # of the peak


def loss_of(model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
    """Weighted next-token loss and the balancing loss."""
    ids, weights = batch
    target, weight = ids.roll(-1, 1).reshape(-1), weights.roll(-1, 1)
    weight[:, -1] = 0.0
    keep = weight.reshape(-1).nonzero()[:, 0]
    logits, balance = model(ids, keep)
    weight = weight.reshape(-1)[keep]
    surprise = F.cross_entropy(logits, target[keep], reduction="none")
    return (surprise * weight).sum() / weight.sum(), balance


@torch.no_grad()
def answer_loss(model: Model, data: list[Batch]) -> float:
    """Loss on assistant tokens only."""
    total = count = 0.0
    for ids, weights in data:
        answers = (ids, (weights == 1.0).float())
        n = float(answers[1][:, 1:].sum())
        total, count = total + float(loss_of(model, answers)[0]) * n, count + n
    return total / count


def orthogonal(g: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest (semi-)orthogonal matrix, in bfloat16, which is exact enough for a direction."""
    tall = g.shape[-2] > g.shape[-1]
    x = g.transpose(-1, -2) if tall else g
    x = (x / (x.norm(dim=(-1, -2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.transpose(-1, -2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; the step has about the root mean square of AdamW's, so both share one learning rate."""

    def __init__(self, parameters: list[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.05) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                direction = orthogonal(p.grad.lerp(m, group["momentum"]))
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(direction, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape[-2:])))


def optimizers(model: Model, lr: float) -> list[torch.optim.Optimizer]:
    named = dict(model.named_parameters())
    matrices = {n for n, p in named.items() if p.ndim >= 2 and min(p.shape[-2:]) >= 32 and n not in ("embed", "head")}
    rest = [p for n, p in named.items() if n not in matrices]
    return [Muon([named[n] for n in sorted(matrices)], lr),
            torch.optim.AdamW([{"params": [p for p in rest if p.ndim >= 2], "weight_decay": 0.05},
                               {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98))]


def rate(step: int, progress: float) -> float:
    """Share of the peak learning rate: up over the first steps, then a cosine over the time."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint and log")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--tokens", type=int, default=2048, help="ids in a batch, with padding")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--every", type=float, default=120, help="seconds between evaluations and checkpoints")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    encoder = Encoder(arguments.tokenizer)
    config = Config(vocab_size=encoder.tokenizer.get_vocab_size())
    model = Model(config)
    used_optimizers = optimizers(model, arguments.lr)
    step = seen = 0
    used = 0.0
    file = arguments.out / "checkpoint.pt"
    if file.exists():
        state = torch.load(file)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(used_optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        step, seen, used = state["step"], state["seen"], state["seconds"]
    data = batches(Generator(arguments.seed * 100000 + step, False).documents(10 ** 9), encoder, arguments.tokens)
    fixed = {"train": list(batches(Generator(arguments.seed * 100000, False).documents(150), encoder, 512)),
             "held": list(batches(Generator(arguments.seed * 100000 + 99999, True).documents(150), encoder, 512))}
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {config}", flush=True)
    begin, limit, running = time.monotonic() - used, arguments.minutes * 60, None
    evaluated = used
    while (seconds := time.monotonic() - begin) < limit:
        lr = arguments.lr * rate(step, seconds / limit)
        for optimizer in used_optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        batch = next(data)
        loss, balance = loss_of(model, batch)
        (loss + BALANCE_WEIGHT * balance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in used_optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        step, seen, now = step + 1, seen + int((batch[1] > 0).sum()), float(loss.detach())
        running = now if running is None else running * 0.98 + now * 0.02
        seconds = time.monotonic() - begin
        if seconds - evaluated >= arguments.every or seconds >= limit:
            evaluated = seconds
            row = {"step": step, "seconds": round(seconds), "tokens": seen, "lr": round(lr, 6), "running": round(running, 4),
                   "balance": round(float(balance.detach()), 3), **{k: round(answer_loss(model, v), 4) for k, v in fixed.items()}}
            print(json.dumps(row), flush=True)
            with open(arguments.out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            fresh = file.with_suffix(".new")
            torch.save({"config": config.dict(), "model": model.state_dict(), "optimizers": [o.state_dict() for o in used_optimizers],
                        "step": step, "seen": seen, "seconds": time.monotonic() - begin}, fresh)
            fresh.replace(file)


if __name__ == "__main__":
    main()
