#!/usr/bin/env python3
"""qwen_moe_chat report: figures that belong together, a page that stands alone. QWEN_TOOL and HLWQ_TOOL are the programs."""
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

QWEN, HLWQ = os.environ["QWEN_TOOL"], os.environ["HLWQ_TOOL"]
TINY = Path(__file__).parents[2] / "examples/qwen_moe_chat/tiny"
MODEL, TEXT = TINY / "model", TINY / "heldout.txt"


def run(*command, code=0, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stderr}"
    return done


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for bits in (5, 3):
            run(HLWQ, "quantize", MODEL, cls.folder / f"q{bits}", "--bits", bits)
        cls.page = cls.folder / "report.html"
        cls.arguments = ["report", "--quantized", cls.folder / "q5", "--quantized", cls.folder / "q3", "--ablation", 5,
                         "--file", TEXT, "--tokens", 1024, "--out", cls.page]
        cls.json = json.loads(run(QWEN, *cls.arguments, "--json").stdout)

    def test_fewer_bits_cost_more(self):
        q5, q3 = self.json["checkpoints"]
        self.assertEqual((q5["name"], q3["name"]), ("q5", "q3"))
        self.assertLess(q5["relative_mse"], q3["relative_mse"])
        self.assertLess(0, q5["kld_mean"])
        self.assertLess(q5["kld_mean"], q3["kld_mean"])
        self.assertLess(q3["bytes"], q5["bytes"])
        self.assertAlmostEqual(q5["bits_per_weight"], 5.125, places=3)
        self.assertLess(abs(q5["ppl"] / q5["ppl_base"] - 1), 0.01)

    def test_errors_agree_with_compare(self):
        compared = json.loads(run(HLWQ, "compare", MODEL, self.folder / "q5", "--json").stdout)
        total = self.json["checkpoints"][0]["relative_mse"]
        worst = max(t["relative_mse"] or 0 for t in compared["tensors"])
        self.assertLess(total, worst * 1.0001)
        self.assertGreater(total, compared["relative_mse"] * 0.9)

    def test_perplexity_and_divergence_are_those_of_the_commands(self):
        common = ["--file", TEXT, "--tokens", 1024, "--ctx", 512, "--score", "all", "--json"]
        alone = json.loads(run(QWEN, "kld", "--base", MODEL, "--model", self.folder / "q5", *common).stdout)
        together = self.json["checkpoints"][0]
        self.assertAlmostEqual(alone["kld_mean"], together["kld_mean"], delta=1e-6)
        self.assertAlmostEqual(alone["ppl"], together["ppl"], delta=1e-4)
        self.assertAlmostEqual(alone["ppl_base"], self.json["ppl_base"], delta=1e-4)

    def test_the_ablation_says_whether_its_order_holds(self):
        (ablation,) = self.json["ablations"]
        kld = [v["kld_mean"] for v in ablation["variants"]]
        self.assertEqual([v["name"] for v in ablation["variants"]],
                         ["absmax", "absmax + rotation", "Lloyd-Max", "HLWQ (both)"])
        self.assertEqual(ablation["ordered"], kld[3] < min(kld[1:3]) and max(kld[1:3]) < kld[0])
        # Both steps together are the encoder `nearest` with the converged table.
        run(HLWQ, "quantize", MODEL, self.folder / "nearest", "--encoder", "nearest", "--codebook", "converged")
        again = json.loads(run(QWEN, "report", "--quantized", self.folder / "nearest", "--file", TEXT, "--tokens", 1024,
                               "--json").stdout)["checkpoints"][0]
        self.assertAlmostEqual(again["kld_mean"] / kld[3], 1, delta=0.02)

    def test_the_page_stands_alone(self):
        text = self.page.read_text()
        for foreign in ("http://", "https://", "<script", "url("):
            self.assertNotIn(foreign, text)
        charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
        self.assertGreaterEqual(len(charts), 6)
        for chart in charts:
            xml.fromstring(chart)
            self.assertNotIn("nan", chart)

    def test_a_full_disk_leaves_nothing_behind(self):
        target = self.folder / "full" / "report.html"
        target.parent.mkdir()
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        arguments = ["report", "--quantized", self.folder / "q5", "--file", TEXT, "--tokens", 64, "--out", target]
        done = run(QWEN, *arguments, code=1, preexec_fn=limit)
        self.assertTrue(done.stderr.splitlines()[-1].startswith("qwen_moe_chat: error: "), done.stderr)
        self.assertFalse(target.exists())

    def test_refusals(self):
        done = run(QWEN, "report", "--file", self.folder / "none.txt", code=1)
        self.assertIn("none.txt", done.stderr)
        run(QWEN, "report", "--file", TEXT, "--ablation", 9, code=2)
        done = run(QWEN, "report", "--model", self.folder / "q5", "--file", TEXT, "--ablation", 5, "--tokens", 64, code=1)
        self.assertIn("quantized", done.stderr)


if __name__ == "__main__":
    if not (MODEL / "model.safetensors").exists():
        print(f"skipped: {MODEL / 'model.safetensors'} is missing")
        sys.exit(77)
    unittest.main()
