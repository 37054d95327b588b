#!/usr/bin/env python3
"""qwen_moe_chat logits: results, options, refusals. QWEN_TOOL is the program, HLWQ_TEST_DATA the folder of models."""
import array
import json
import os
import resource
import shutil
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOL = os.environ["QWEN_TOOL"]
DATA = Path(os.environ["HLWQ_TEST_DATA"])


def read_safetensors(path):
    raw = Path(path).read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = array.array({"F32": "f", "I64": "q"}.get(entry["dtype"], "B"))
        values.frombytes(raw[8 + length + begin : 8 + length + end])
        tensors[name] = (entry["shape"], values)
    return tensors


class Logits(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.ids = self.folder / "ids.json"
        self.out = self.folder / "out.safetensors"

    def run_tool(self, *arguments, model=DATA / "moe_tiny", **options):
        command = [TOOL, "logits", "--ids", self.ids, "--out", self.out, "--model", model, *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)

    def refused(self, code, part, *arguments, **options):
        result = self.run_tool(*arguments, **options)
        self.assertEqual(result.returncode, code, result.stderr)
        lines = result.stderr.splitlines()
        self.assertTrue(lines and lines[-1].startswith("qwen_moe_chat: error: "), result.stderr)
        self.assertIn(part, lines[-1])
        self.assertEqual(result.stdout, "")
        self.assertEqual(sorted(p.name for p in self.folder.glob("out*")), [])

    def test_prefill_chunks_and_decoding_agree_with_the_reference(self):
        for model in ("moe_tiny", "dense_tiny"):
            golden = read_safetensors(DATA / model / "golden_ref64.safetensors")
            for run in ("p70d6", "p1d3"):
                ids = golden[run + ".ids"][1].tolist()
                expected = golden[run + ".prefill_logits"][1] + golden[run + ".decode_logits"][1]
                largest = max(map(abs, expected))
                self.ids.write_text(json.dumps(ids))
                exact = ["--mode", "exact"]
                for tolerance, arguments in (
                    (1e-4, exact), (1e-4, [*exact, "--prefill", 0]), (1e-4, [*exact, "--prefill", len(ids) - 3, "--chunk", 7]),
                    # Keys and values are rounded to half.
                    (1e-3, []), (1e-3, ["--prefill", len(ids) - 3, "--chunk", 7, "--threads", 1]),
                ):
                    result = self.run_tool(*arguments, model=DATA / model)
                    self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)
                    shape, found = read_safetensors(self.out)["logits"]
                    self.assertEqual(shape, [len(ids), 512])
                    difference = max(abs(a - b) for a, b in zip(found, expected))
                    self.assertLess(difference / largest, tolerance)

    def test_lists_of_ids(self):
        for text, part in (
            ("", "found nothing"),
            ("[1, 2", "found a syntax error at byte 6"),
            ("[1]\0", "found a zero byte at byte 3"),
            ("[]", "an empty one"),
            ('{"ids": [1]}', "a JSON list of token ids"),
            ("[1, -2]", "token 1: expected a token id, found -2"),
            ('[1, 2, "x"]', 'token 2: expected a token id, found "x"'),
            ("[1.5]", "found 1.5"),
            ("[99999999999]", "found 99999999999"),
            ("[512]", "token id: expected below 512, found 512"),
            (json.dumps([1] * 4097), "at most 4096, the context of the model, found 4097"),
        ):
            self.ids.write_text(text)
            self.refused(1, part)
        self.ids.unlink()
        self.refused(1, "ids.json")

    def test_wrong_usage(self):
        self.ids.write_text("[1]")
        self.refused(2, "--mode", "--mode", "sloppy")
        self.refused(2, "--chunk", "--chunk", "0")
        self.refused(2, "--prefill", "--prefill", "-1")
        self.refused(2, "--threads", "--threads", "0")
        self.assertEqual(subprocess.run([TOOL, "logits"], capture_output=True).returncode, 2)
        self.assertEqual(subprocess.run([TOOL, "nonsense"], capture_output=True).returncode, 2)
        self.assertEqual(subprocess.run([TOOL, "--help"], capture_output=True).returncode, 0)

    def broken_model(self, change):
        model = self.folder / "model"
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir()
        for name in ("config.json", "model.safetensors"):
            (model / name).write_bytes((DATA / "moe_tiny" / name).read_bytes())
        change(model)
        return model

    def test_models_that_cannot_be_read(self):
        self.ids.write_text("[1, 2, 3]")

        def config(change):
            def apply(model):
                parsed = json.loads((model / "config.json").read_text())
                change(parsed)
                (model / "config.json").write_text(json.dumps(parsed))

            return self.broken_model(apply)

        def cut(model):
            raw = (model / "model.safetensors").read_bytes()
            (model / "model.safetensors").write_bytes(raw[: len(raw) // 2])

        def index(model):
            names = [n for n in read_safetensors(model / "model.safetensors")]
            shards = {name: "model-00001-of-00002.safetensors" for name in names}
            shards["lm_head.weight"] = "model-00002-of-00002.safetensors"
            (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
            (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))

        self.refused(1, "not a directory", model=self.folder / "nowhere")
        self.refused(1, "safetensors header", model=self.broken_model(cut))
        self.refused(1, "model-00002-of-00002.safetensors", model=self.broken_model(index))
        self.refused(1, "config.json", model=self.broken_model(lambda m: (m / "config.json").unlink()))
        self.refused(1, "config.json", model=self.broken_model(lambda m: (m / "config.json").write_text("{")))
        self.refused(
            1,
            'text_config.rope_parameters.rope_type: expected default, found "yarn"',
            model=config(lambda c: c["text_config"]["rope_parameters"].update(rope_type="yarn")),
        )
        self.refused(
            1,
            "tensor model.language_model.embed_tokens.weight (model.safetensors): expected [500, 64], found BF16 [512, 64]",
            model=config(lambda c: c["text_config"].update(vocab_size=500, eos_token_id=1)),
        )

    def test_a_disk_that_is_full_leaves_nothing(self):
        self.ids.write_text(json.dumps([1] * 40))
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        self.refused(1, "out.safetensors", preexec_fn=limit)

    def test_an_output_that_cannot_be_made(self):
        self.ids.write_text("[1]")
        self.out = self.folder / "no" / "such" / "folder"
        self.refused(1, "no/such/folder")


if __name__ == "__main__":
    unittest.main()
