#!/usr/bin/env python3
"""qwen_moe_chat with HLWQ_ISA: what it says that it runs, and the refusal of what it does not have. QWEN_TOOL is the
program, HLWQ_TEST_DATA the folder of models."""
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOL = os.environ["QWEN_TOOL"]
DATA = Path(os.environ["HLWQ_TEST_DATA"])
MODEL = ["--model", DATA / "moe_tiny", "--threads", 1]


def run(isa, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "HLWQ_ISA"}
    if isa is not None:
        environment["HLWQ_ISA"] = isa
    return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300)


def succeed(isa, *arguments):
    result = run(isa, *arguments)
    assert result.returncode == 0, (isa, arguments, result.returncode, result.stderr)
    return result.stdout


class Isa(unittest.TestCase):
    def refusal(self, isa, *arguments):
        """The sets that run here, and those that were compiled, as the refusal of one that is neither lists them."""
        result = run(isa, *arguments)
        self.assertEqual((result.returncode, result.stdout), (1, ""), (arguments, result.stderr))
        pattern = (r"qwen_moe_chat: error: environment variable HLWQ_ISA: expected an instruction set that runs here "
                   rf'\((.+)\) of those compiled \((.+)\), found "{isa}"\n')
        self.assertRegex(result.stderr, f"^{pattern}$")
        return [names.split(", ") for names in re.fullmatch(pattern, result.stderr).groups()]

    def test_an_unknown_one_is_refused_by_every_command(self):
        with tempfile.TemporaryDirectory() as folder:
            ids, out = Path(folder, "ids.json"), Path(folder, "out.safetensors")
            ids.write_text("[1, 2, 3]")
            lists = [self.refusal("avx9", *arguments) for arguments in (
                ["--version"], ["chat", "-p", "x", *MODEL], ["bench", *MODEL, "--json"],
                ["logits", "--ids", ids, "--out", out, *MODEL])]
            self.assertFalse(out.exists())
        for other in lists[1:]:
            self.assertEqual(other, lists[0])
        runnable, compiled = lists[0]
        self.assertLessEqual(set(runnable), set(compiled))
        for isa in set(compiled) - set(runnable):
            self.refusal(isa, "--version")

    def test_version_and_bench_name_the_one_that_runs(self):
        runnable, compiled = self.refusal("avx9", "--version")
        for isa in (None, "", *runnable):
            expected = isa or runnable[0]  # the best one first
            self.assertRegex(succeed(isa, "--version"),
                             rf"^qwen_moe_chat \d+\.\d+\.\d+ \({expected}, (highway|xsimd|scalar)\)\n$")
        for isa in (None, runnable[-1]):
            found = json.loads(succeed(isa, "bench", *MODEL, "-p", 3, "-n", 2, "-r", 1, "--json"))
            self.assertEqual(found["isa"], isa or runnable[0])
            self.assertIn(f", {isa or runnable[0]};", succeed(isa, "bench", *MODEL, "-p", 3, "-n", 0, "-r", 1))


if __name__ == "__main__":
    unittest.main()
