#!/usr/bin/env python3
"""Ids of random Unicode strings, ours against Hugging Face `tokenizers` (PyPI, in an environment of your own).

    tokenizers_compare.py TOKENIZER_JSON COUNT PROGRAM [ARGUMENT ...]

PROGRAM reads JSON strings, one a line, and writes lists of ids (qwen_moe_chat tokenize --model DIR). Left out are
  - code points that Unicode 14 does not assign: PCRE2 10.42 and utf8proc 2.8 do not know newer ones;
  - combining marks whose class the reference's normaliser does not know. tokenizers 0.23 sorts marks by the classes of
    Unicode 9: a later one, such as U+0D3C (class 9), it does not move before U+06DF (class 230) as NFC demands and as
    utf8proc does. They are found by asking it.
"""
import json
import random
import subprocess
import sys
import unicodedata

from tokenizers import Tokenizer, normalizers


def unsorted_marks():
    """Marks that the reference leaves where they stand although a mark of another class stands on the wrong side."""
    nfc = normalizers.NFC()
    marks = set()
    for code in range(0x300, 0x110000):
        if unicodedata.combining(chr(code)):
            for neighbour in "\u0334\u0345\u0301":  # classes 1, 240, 230
                for text in ("a" + chr(code) + neighbour, "a" + neighbour + chr(code)):
                    if nfc.normalize_str(text) != unicodedata.normalize("NFC", text):
                        marks.add(code)
    return marks


UNSORTED = unsorted_marks()


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
        if unicodedata.category(c) not in ("Cn", "Cs") and ord(c) not in UNSORTED:
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
    print(f"{count} strings without {len(UNSORTED)} marks that the reference does not sort, {different} different")
    sys.exit(different != 0)


if __name__ == "__main__":
    main()
