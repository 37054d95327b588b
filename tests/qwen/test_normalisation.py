#!/usr/bin/env python3
"""A text comes back from its ids in NFC, as Python's unicodedata has it: characters of Unicode 3.2, which no version since
has changed, in front of, behind and between what they may combine with: all that combine or decompose, all below U+3000
and one in fifty of the rest."""
import json
import os
import shutil
import subprocess
import tempfile
import unicodedata
import unittest
from pathlib import Path

TOOL = os.environ["QWEN_TOOL"]
DATA = Path(os.environ["HLWQ_TEST_DATA"])


class Normalisation(unittest.TestCase):
    def test_every_character(self):
        model = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, model)
        shutil.copy(DATA / "tokenizer" / "tokenizer_qwen35.json", model / "tokenizer.json")

        def lines(command, values):
            text = "".join(json.dumps(value) + "\n" for value in values)
            done = subprocess.run([TOOL, command, "--model", model], input=text, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return [json.loads(line) for line in done.stdout.rstrip("\n").split("\n")]

        texts = []
        for code in range(0x30000):
            c = chr(code)
            combines = unicodedata.combining(c) or unicodedata.decomposition(c)
            chosen = code < 0x3000 or combines or code % 50 == 0
            if chosen and unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs"):
                texts.append(f"a{c}e\u0301\u0e48{c}\u0323\u0301{c}\uac00{c}\u0928{c}\u093c\u1100{c}\u11a8{c}")
        self.assertGreater(len(texts), 10_000)
        back = lines("detokenize", lines("tokenize", texts))
        for text, found in zip(texts, back, strict=True):
            self.assertEqual(found, unicodedata.normalize("NFC", text), ascii(text))


if __name__ == "__main__":
    unittest.main()
