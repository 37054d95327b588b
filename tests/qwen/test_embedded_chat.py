#!/usr/bin/env python3
"""The embedded model answers: the default command without --model, deterministically, with and without snapshots.
QWEN_TOOL is the program."""
import os
import subprocess
import sys
import unittest
from pathlib import Path

TOOL = os.environ["QWEN_TOOL"]
MODEL = Path(__file__).parents[2] / "examples/qwen_moe_chat/tiny/model"


def ask(text, *arguments):
    result = subprocess.run([TOOL, "-p", text, "--no-stats", *arguments], capture_output=True, text=True,
                            stdin=subprocess.DEVNULL, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


class EmbeddedChat(unittest.TestCase):
    def test_it_answers_with_sense(self):
        self.assertIn("42", ask("What is 12 + 30?"))
        self.assertIn("Paris", ask("What is the capital of France?"))

    def test_the_answer_ends_by_itself_and_is_the_same_each_time(self):
        first = ask("Hello!")
        self.assertEqual(first, ask("Hello!"))
        self.assertEqual(first, ask("Hello!", "--threads", "1"))
        self.assertLess(len(first), 400)
        self.assertTrue(first.strip())

    def test_a_seed_is_a_text(self):
        story = ["Tell me a story about a fox.", "--temp", "1.5", "--top-k", "0", "-n", "60"]
        self.assertEqual(ask(*story, "--seed", "3"), ask(*story, "--seed", "3"))
        self.assertGreater(len({ask(*story, "--seed", str(seed)) for seed in range(4)}), 1)

    def test_a_stop_string(self):
        whole = ask("Tell me a story about a fox.")
        word = whole.split()[5]
        self.assertEqual(ask("Tell me a story about a fox.", "--stop", word).rstrip("\n"),
                         whole[: whole.index(word)].rstrip("\n"))


if __name__ == "__main__":
    if not (MODEL / "model.safetensors").exists():
        print(f"skipped: {MODEL / 'model.safetensors'} is not there")
        sys.exit(77)
    unittest.main()
