"""The order of packed codes in memory changes no result: --layout, on checkpoints stored either way."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOL, HLWQ = os.environ["QWEN_TOOL"], os.environ["HLWQ_TOOL"]
DATA = Path(os.environ["HLWQ_TEST_DATA"])


class Layout(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "ids.json").write_text(json.dumps([1, 5, 9, 60, 33, 2, 2, 47, 11, 30, 12, 0, 63] * 3))

    def quantized(self, *options):
        out = self.folder / "-".join(("model", *options))
        subprocess.run([HLWQ, "quantize", DATA / "moe_tiny", out, *options], check=True, capture_output=True)
        return out

    def logits(self, model, layout, mode):
        out = self.folder / "logits.safetensors"
        subprocess.run([TOOL, "logits", "--ids", self.folder / "ids.json", "--out", out, "--model", model, "--layout", layout,
                        "--mode", mode, "--threads", "2"], check=True, capture_output=True)
        return out.read_bytes()

    def test_logits_are_the_same_bytes(self):
        for bits in ("3", "5", "6"):
            for mode in ("exact", "precise", "fast"):
                models = [self.quantized("--bits", bits), self.quantized("--bits", bits, "--layout", "planes")]
                expected = self.logits(models[0], "wire", mode)
                files = [{path: path.read_bytes() for path in model.iterdir()} for model in models]
                for model in models:
                    for layout in ("auto", "wire", "planes"):
                        self.assertTrue(self.logits(model, layout, mode) == expected, (bits, mode, model.name, layout))
                # What was repacked is memory, not the file.
                self.assertEqual(files, [{path: path.read_bytes() for path in model.iterdir()} for model in models])
                for model in models:
                    shutil.rmtree(model)

    def test_codes_of_other_formats_and_plain_models(self):
        for model in (self.quantized("--format", "polar-v5"), self.quantized("--head-bits", "8"), DATA / "moe_tiny"):
            expected = self.logits(model, "wire", "precise")
            for layout in ("auto", "planes"):
                self.assertTrue(self.logits(model, layout, "precise") == expected, (model.name, layout))

    def test_an_unknown_layout_is_wrong_usage(self):
        done = subprocess.run([TOOL, "logits", "--ids", self.folder / "ids.json", "--out", self.folder / "o", "--layout", "tiles"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--layout", done.stderr)


if __name__ == "__main__":
    unittest.main()
