#!/usr/bin/env python3
"""perplexity, kld, choice and bench on the embedded model. QWEN_TOOL is the program."""
import array
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = os.environ["QWEN_TOOL"]
TINY = Path(__file__).parents[2] / "examples/qwen_moe_chat/tiny"
MODEL, TEXT = TINY / "model", TINY / "heldout.txt"


def read_logits(path):
    raw = Path(path).read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    entry = json.loads(raw[8 : 8 + length])["logits"]
    rows, cols = entry["shape"]
    values = array.array("f")
    values.frombytes(raw[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]])
    return [values[r * cols : (r + 1) * cols] for r in range(rows)]


def nll(row, target):
    most = max(row)
    return most + math.log(math.fsum(math.exp(x - most) for x in row)) - row[target]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def run_tool(self, *arguments, code=0, **options):
        done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def json(self, *arguments):
        return json.loads(self.run_tool(*arguments, "--json").stdout)

    def refused(self, code, part, *arguments):
        done = self.run_tool(*arguments, code=code)
        self.assertEqual(done.stdout, "")
        last = done.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("qwen_moe_chat: error: "), done.stderr)
        self.assertIn(part, last)

    def ids(self, text):
        return json.loads(self.run_tool("tokenize", input=json.dumps(text) + "\n").stdout)

    def logits(self, ids):
        source, out = self.folder / "ids.json", self.folder / "logits.safetensors"
        source.write_text(json.dumps(ids))
        self.run_tool("logits", "--ids", source, "--out", out)
        return read_logits(out)


class Perplexity(Case):
    def test_it_is_that_of_the_logits_of_every_window(self):
        ids = self.ids(TEXT.read_text(encoding="utf-8"))[:150]
        windows = [ids[at : at + 60] for at in range(0, 150, 60)]
        rows = [self.logits(window) for window in windows]
        for arguments, scored, protocol in (
            (["--ctx", 60], [range(31, 60), range(31, 60), range(0)], "chunked: windows of 60 tokens, the last 29"),
            (["--ctx", 60, "--score", "all"], [range(1, 60), range(1, 60), range(1, 30)], "all but the first token"),
        ):
            samples = [nll(rows[w][t - 1], windows[w][t]) for w in range(3) for t in scored[w]]
            mean = math.fsum(samples) / len(samples)
            error = math.sqrt(math.fsum((x - mean) ** 2 for x in samples) / (len(samples) - 1) / len(samples))
            found = self.json("perplexity", "--file", TEXT, "--tokens", 150, *arguments)
            self.assertEqual(found["tokens"], len(samples))
            self.assertAlmostEqual(found["nll"], mean, delta=1e-4)
            self.assertAlmostEqual(found["ppl"] / math.exp(mean), 1, delta=1e-4)
            self.assertAlmostEqual(found["ppl_stderr"] / (math.exp(mean) * error), 1, delta=1e-3)
            self.assertIn(protocol, found["protocol"])

    def test_the_model_knows_its_held_out_text(self):
        chunked = self.json("perplexity", "--file", TEXT, "--tokens", 2048, "--ctx", 256)
        vocabulary = json.loads((MODEL / "config.json").read_text())["vocab_size"]
        self.assertLess(chunked["ppl"], vocabulary / 50)
        self.assertEqual(chunked["tokens"], 8 * 127)
        sliding = self.json("perplexity", "--file", TEXT, "--tokens", 1000, "--ctx", 256, "--stride", 128)
        self.assertEqual(sliding["tokens"], 999)
        self.assertIn("stride 128", sliding["protocol"])
        text = self.run_tool("perplexity", "--file", TEXT, "--tokens", 1000, "--ctx", 256, "--stride", 128)
        self.assertIn("sliding: windows of 256 tokens, stride 128", text.stdout)
        self.assertIn(f"{sliding['ppl']:.4f} ± {sliding['ppl_stderr']:.4f}", text.stdout)
        self.assertIn("tokens in", text.stderr)

    def test_special_tokens_in_the_text_are_those_tokens(self):
        file = self.folder / "text"
        file.write_text("Hello<|endoftext|>Hello")
        ids = self.ids("Hello<|endoftext|>Hello")
        rows = self.logits(ids)
        expected = math.fsum(nll(rows[t - 1], ids[t]) for t in range(1, len(ids))) / (len(ids) - 1)
        found = self.json("perplexity", "--file", file, "--score", "all")
        self.assertAlmostEqual(found["nll"], expected, delta=1e-4)

    def test_refusals(self):
        file = self.folder / "text"
        file.write_bytes(b"abc \xff def")
        self.refused(1, str(file), "perplexity", "--file", file, "--ctx", 4)
        file.write_text("short")
        self.refused(1, "tokens of the text: expected at least a window of 512", "perplexity", "--file", file)
        self.refused(1, "nowhere", "perplexity", "--file", self.folder / "nowhere")
        self.refused(2, "--stride", "perplexity", "--file", TEXT, "--ctx", 64, "--stride", 64)
        self.refused(2, "--score", "perplexity", "--file", TEXT, "--stride", 64, "--score", "all")
        self.refused(2, "--ctx", "perplexity", "--file", TEXT, "--ctx", 3)
        self.refused(2, "--file", "perplexity")


class Divergence(Case):
    def test_from_a_checkpoint_and_from_saved_logits(self):
        common = ["--file", TEXT, "--tokens", 400, "--ctx", 100]
        itself = self.json("kld", "--base", MODEL, *common)
        self.assertEqual((itself["same_top1"], itself["ppl"]), (1, itself["ppl_base"]))
        self.assertLess(itself["kld_max"], 1e-9)
        self.assertEqual(itself["tokens"], 4 * 49)

        saved = self.folder / "base.safetensors"
        base = self.json("perplexity", "--save-logits", saved, *common)
        self.assertEqual(base["ppl"], itself["ppl_base"])
        # The other arithmetic, or where nothing is quantized the same: divergence is small, and the same from both.
        a = self.json("kld", "--base", saved, "--mode", "fast", *common)
        b = self.json("kld", "--base", MODEL, "--mode", "fast", *common)
        for field in ("kld_stderr", "kld_median", "kld_p99", "same_top1", "ppl", "protocol"):
            self.assertIn(field, a)
        self.assertEqual(a["ppl_base"], base["ppl"])
        self.assertLess(a["kld_mean"], 1e-2)
        self.assertEqual(a["tokens"], b["tokens"])
        self.assertIn("KL mean", self.run_tool("kld", "--base", saved, *common).stdout)

        self.refused(1, "tokens of the text", "kld", "--base", saved, "--file", TEXT, "--tokens", 300, "--ctx", 100)
        self.refused(1, "protocol", "kld", "--base", saved, *common, "--score", "all")
        other = self.folder / "other.txt"
        other.write_text("Other. " + TEXT.read_text(encoding="utf-8"), encoding="utf-8")
        self.refused(1, "token 0 of the text", "kld", "--base", saved, "--file", other, "--tokens", 400, "--ctx", 100)
        self.refused(1, "nowhere", "kld", "--base", self.folder / "nowhere", *common)

    def test_a_base_that_cuts_the_text_in_another_way(self):
        base = self.folder / "model"
        shutil.copytree(MODEL, base)
        tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:50]
        (base / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
        self.refused(1, "of the text as the base", "kld", "--base", base, "--file", TEXT, "--tokens", 400, "--ctx", 100)


class Choice(Case):
    ITEMS = [
        {"activity_label": "Talk", "ctx_a": "Spring is a season.", "ctx_b": "in spring",
         "endings": ["flowers bloom.", "xq zzv wkj.", "99 - 17 [x]", "<|im_start|>"], "label": "0"},
        {"question": "What is 2 + 3?", "choices": {"text": ["5", "a sheep"], "label": ["A", "B"]}, "answerKey": "A"},
        {"sentence": "Anna is taller than Tom because _ is tall.", "option1": "Anna", "option2": "Tom", "answer": "1"},
    ]

    def write(self, items, name="items.jsonl"):
        file = self.folder / name
        file.write_text("\n".join(i if isinstance(i, str) else json.dumps(i) for i in items) + "\n", encoding="utf-8")
        return file

    def test_shapes_and_counts(self):
        found = self.json("choice", self.write(self.ITEMS + [""]))
        self.assertEqual(found["items"], 3)
        self.assertEqual(sorted(found["shapes"]), ["arc", "hellaswag", "winogrande"])
        self.assertEqual(found["shapes"]["hellaswag"]["accuracy"], 1)
        right = sum(shape["accuracy"] * shape["items"] for shape in found["shapes"].values())
        self.assertAlmostEqual(found["accuracy"], right / 3)
        share = found["accuracy"]
        self.assertAlmostEqual(found["accuracy_stderr"], math.sqrt(share * (1 - share) / 2))
        self.assertTrue(0 <= found["accuracy_norm"] <= 1)
        self.assertEqual(self.json("choice", self.write(self.ITEMS), "--limit", 1)["items"], 1)
        text = self.run_tool("choice", self.write(self.ITEMS)).stdout
        self.assertEqual([line.split()[0] for line in text.splitlines()],
                         ["shape", "hellaswag", "arc", "winogrande", "all"])

    def test_the_winner_is_the_likeliest_answer(self):
        context = "Question: What is 2 + 3?\nAnswer:"
        likelihood = []
        for answer in (" 5", " a sheep"):
            ids = self.ids(context + answer)
            first, rows = len(self.ids(context)), self.logits(ids)
            likelihood.append(-math.fsum(nll(rows[t - 1], ids[t]) for t in range(first, len(ids))))
        for key, expected in (("A", likelihood[0] >= likelihood[1]), ("B", likelihood[1] > likelihood[0])):
            item = dict(self.ITEMS[1], answerKey=key)
            self.assertEqual(self.json("choice", self.write([item]))["accuracy"], expected)

    def test_malformed_lines_are_named(self):
        file = self.write([self.ITEMS[0], "", "{not json"])
        self.refused(1, f"{file}, line 3: question: expected a JSON object", "choice", file)
        file = self.write([self.ITEMS[1], dict(self.ITEMS[1], answerKey="Z")])
        self.refused(1, f"{file}, line 2: answerKey: expected one of the labels", "choice", file)
        self.refused(1, "an empty file", "choice", self.write([""]))
        self.refused(2, "FILE", "choice")


class Bench(Case):
    def test_speeds_of_both_kinds_at_every_depth(self):
        found = self.json("bench", "-p", 24, "-n", 6, "-d", "0,70", "-r", 3, "--chunk", 16, "--threads", 2)
        self.assertEqual([(r["kind"], r["tokens"], r["depth"]) for r in found["runs"]],
                         [("pp", 24, 0), ("tg", 6, 0), ("pp", 24, 70), ("tg", 6, 70)])
        for run in found["runs"]:
            self.assertTrue(0 < run["min"] <= run["median"] <= run["max"])
        self.assertEqual(found["pp_tok_s"], found["runs"][0]["median"])
        self.assertEqual(found["tg_tok_s"], found["runs"][1]["median"])
        self.assertEqual(found["threads"], 2)
        self.assertIsInstance(found["isa"], str)
        self.assertTrue(0 < found["load_s"] < found["first_token_s"])
        self.assertGreater(found["peak_rss"], found["state_bytes"])
        self.assertEqual(found["file_bytes"], (MODEL / "model.safetensors").stat().st_size)

    def test_several_sequences_stand_beside_one(self):
        found = self.json("bench", "--sequences", 3, "-p", 24, "-n", 6, "-d", "0,70", "-r", 2, "--chunk", 16)
        self.assertEqual([(r["kind"], r["sequences"], r["tokens"], r["depth"]) for r in found["runs"]],
                         [(kind, sequences, tokens, depth) for depth in (0, 70)
                          for kind, tokens in (("pp", 24), ("tg", 6)) for sequences in (1, 3)])
        for run in found["runs"]:
            self.assertTrue(0 < run["min"] <= run["median"] <= run["max"])
            self.assertEqual(run["repetitions"], 2)
        self.assertEqual(found["pp_tok_s"], found["runs"][1]["median"])
        self.assertEqual(found["tg_tok_s"], found["runs"][3]["median"])
        one = self.json("bench", "-p", 24, "-n", 6, "-d", "0,70", "-r", 1)
        self.assertEqual([r["sequences"] for r in one["runs"]], [1, 1, 1, 1])
        self.assertEqual(found["state_bytes"], 3 * one["state_bytes"])
        table = self.run_tool("bench", "--sequences", 2, "-p", 4, "-n", 4, "-r", 1).stdout
        for name in ("\npp4 ", "\n2 x pp4 ", "\ntg4 ", "\n2 x tg4 "):
            self.assertIn(name, table)
        self.assertEqual(table.count("times one"), 2)

    def test_what_is_not_run_is_null(self):
        found = self.json("bench", "-p", 0, "-n", 3, "-r", 1)
        self.assertIsNone(found["pp_tok_s"])
        self.assertEqual(len(found["runs"]), 1)
        found = self.json("bench", "-p", 3, "-n", 0, "-r", 2, "--time", 0)
        self.assertIsNone(found["tg_tok_s"])
        self.assertEqual(found["runs"][0]["repetitions"], 1)
        table = self.run_tool("bench", "-p", 4, "-n", 4, "-d", 8, "-r", 1).stdout
        self.assertIn("pp4 @ d8", table)
        self.assertIn("tg4 @ d8", table)
        self.assertIn("load", table)

    def test_refusals(self):
        self.refused(2, "-p, -n", "bench", "-p", 0, "-n", 0)
        self.refused(2, "-d", "bench", "-d", "0,x")
        self.refused(2, "--sequences", "bench", "--sequences", 0)
        self.refused(1, "the context of the model", "bench", "-n", 1, "-p", 0, "-d", 10**7)


if __name__ == "__main__":
    if not (MODEL / "model.safetensors").exists():
        print("skipped: the embedded model is missing")
        sys.exit(77)
    unittest.main()
