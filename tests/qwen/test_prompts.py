#!/usr/bin/env python3
"""The embedded model answers the published prompts, in BF16 and at 5 bits, and gives the same answer twice.

QWEN_TOOL and HLWQ_TOOL are the programs. The prompts lie beside the model: turns separated by " >> ", a tab, what the last
answer must contain ("|" or, "&" and).
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

QWEN, HLWQ = os.environ["QWEN_TOOL"], os.environ["HLWQ_TOOL"]
TINY = Path(__file__).parents[2] / "examples/qwen_moe_chat/tiny"
# Answers at temperature 0 may differ between processors where two tokens are equally likely.
LEAST = {"bf16": 38, "q5": 37}


def run(*command, text=None):
    done = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr}"
    return done.stdout


def prompts():
    for line in (TINY / "prompts.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            turns, wanted = line.split("\t")
            yield turns.split(" >> "), wanted


def answer(model, turns):
    """The answer to the last turn; earlier ones are answered by the model too."""
    messages = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        text = run(QWEN, "render", "--model", model, text=json.dumps({"messages": messages, "add_generation_prompt": True}))
        reply = run(QWEN, "--model", model, "--temp", "0", "-n", "160", "--threads", "1", "--raw", "-p", text).strip()
        messages.append({"role": "assistant", "content": reply})
    return reply


def matches(reply, wanted):
    low = reply.lower()
    return all(any(word in low for word in part.split("|")) for part in wanted.lower().split("&"))


class Prompts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run(HLWQ, "quantize", TINY / "model", cls.folder / "q5", "--bits", "5")
        cls.models = {"bf16": TINY / "model", "q5": cls.folder / "q5"}

    def test_there_are_forty(self):
        self.assertEqual(len(list(prompts())), 40)

    def test_answers_are_sensible_and_repeat(self):
        for name, model in self.models.items():
            with self.subTest(name), ThreadPoolExecutor(2) as pool:
                replies = list(pool.map(lambda p: answer(model, p[0]), prompts()))
                wrong = [f"{turns} -> {reply}" for reply, (turns, wanted) in zip(replies, prompts()) if not matches(reply, wanted)]
                print(f"{name}: {40 - len(wrong)} of 40", *wrong, sep="\n  ", file=sys.stderr)
                self.assertGreaterEqual(40 - len(wrong), LEAST[name], wrong)
                turns, _ = next(prompts())
                self.assertEqual(answer(model, turns), replies[0])


if __name__ == "__main__":
    if not (TINY / "model/model.safetensors").exists():
        print(f"skipped: {TINY / 'model/model.safetensors'} is missing")
        sys.exit(77)
    unittest.main()
