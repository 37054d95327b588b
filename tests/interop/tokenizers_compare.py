#!/usr/bin/env python3
"""Ids of random Unicode strings, ours against Hugging Face `tokenizers` (PyPI, in an environment of your own).

    tokenizers_compare.py TOKENIZER_JSON COUNT PROGRAM [ARGUMENT ...]

PROGRAM reads JSON strings, one a line, and writes lists of ids (qwen_moe_chat tokenize --model DIR). Code points that
Unicode 14 does not assign are left out: PCRE2 10.42 and utf8proc 2.8 do not know newer ones. So are the combining marks
that came with Unicode 14: the normaliser of tokenizers 0.23 does not reorder them, utf8proc 2.8 does.
"""
import json
import random
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer


NEW_MARKS = [(0x898, 0x89F), (0x8CA, 0x8D2), (0xC3C, 0xC3C), (0x180F, 0x180F), (0x1DFA, 0x1DFA), (0x10F82, 0x10F85)]


def random_text(source, words):
    kind = source.randrange(6)
    length = source.randrange(1, 60)
    if kind == 0:
        return "".join(chr(source.randrange(32, 127)) for _ in range(length))
    if kind == 1:
        return "".join(source.choice(" \t\n\r\u00a0\u3000\u2028\u180eab1'\u017fst") for _ in range(length))
    if kind == 2:
        return "".join(source.choice(words) + source.choice(["", " ", "\n", "  "]) for _ in range(length // 6 + 1))
    block = source.choice([(0x20, 0x250), (0x300, 0x530), (0x590, 0xE80), (0x1100, 0x1200), (0x1E00, 0x2200),
                           (0x3000, 0x3200), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0x1F300, 0x1F700), (0, 0x30000)])
    out = []
    while len(out) < length:
        c = chr(source.randrange(*block))
        if unicodedata.category(c) not in ("Cn", "Cs") and not any(a <= ord(c) <= b for a, b in NEW_MARKS):
            out.append(c)
    return "".join(out)


def main():
    path, count, program = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    theirs = Tokenizer.from_file(path)
    source = random.Random(20261121)
    words = "the don't I'll WE'RE <|im_start|> <think> na\u00efve \u0915\u094d\u0937 e\u0301 \u1112\u1161\u11ab 3.14 x=1 // 日本語".split(" ")
    texts = [random_text(source, words) for _ in range(count)]
    lines = "".join(json.dumps(t) + "\n" for t in texts)
    ours = subprocess.run(program, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    different = 0
    for text, line in zip(texts, ours, strict=True):
        expected = theirs.encode(text, add_special_tokens=False).ids
        if json.loads(line) != expected:
            different += 1
            if different <= 5:
                print("different:", json.dumps(text), "expected", expected, "found", line)
    print(f"{count} strings, {different} different")
    sys.exit(different != 0)


if __name__ == "__main__":
    main()
