#!/usr/bin/env python3
"""qwen_moe_chat synth: files, refusals, and every measuring command on what it wrote. QWEN_TOOL is the program."""
import json
import os
import resource
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOL = os.environ["QWEN_TOOL"]


class Synth(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.out = self.folder / "out"

    def run_tool(self, *arguments, code=0, **options):
        done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def synth(self, *arguments, **options):
        return self.run_tool("synth", "--shape", "tiny", *arguments, self.out, **options)

    def refused(self, code, part, *arguments, **options):
        done = self.synth(*arguments, code=code, **options)
        self.assertEqual(done.stdout, "")
        last = done.stderr.splitlines()[-1]
        self.assertTrue(last.startswith("qwen_moe_chat: error: "), done.stderr)
        self.assertIn(part, last)

    def contents(self):
        return {p.name: p.read_bytes() for p in self.out.iterdir()}

    def test_what_is_written(self):
        found = json.loads(self.synth("--layers", 5, "--json").stdout)
        files = self.contents()
        self.assertEqual(sorted(files), ["chat_template.jinja", "config.json", "generation_config.json",
                                         "model.safetensors", "model.safetensors.index.json", "polar_config.json",
                                         "tokenizer.json", "tokenizer_config.json"])
        self.assertEqual(json.loads(files["polar_config.json"])["format"], "hlwq-q5")
        config = json.loads(files["config.json"])["text_config"]
        self.assertEqual(config["num_hidden_layers"], 5)
        self.assertEqual(config["layer_types"].count("full_attention"), 1)
        self.assertEqual(found["bytes"], json.loads(files["model.safetensors.index.json"])["metadata"]["total_size"])
        self.assertEqual((found["bits"], found["seed"], found["files"]), (5, 1, 1))
        # The same again, by one thread, over the old files; then another seed; then no codes.
        self.synth("--layers", 5, "--threads", 1, "--force")
        self.assertEqual(self.contents(), files)
        self.synth("--layers", 5, "--seed", 2, "--force")
        self.assertNotEqual(self.contents()["model.safetensors"], files["model.safetensors"])
        self.synth("--layers", 5, "--bf16", "--force")
        self.assertNotIn("polar_config.json", self.contents())
        self.assertGreater(len(self.contents()["model.safetensors"]), 2 * len(files["model.safetensors"]))

    def test_every_command_runs_on_it(self):
        self.synth("--bits", 4, "--vocab", 300)
        text = self.folder / "text"
        text.write_text("Ein Text mit <|endoftext|> und ümläuten. " * 20, encoding="utf-8")
        common = ["--model", self.out, "--file", text, "--ctx", 64, "--json"]
        found = json.loads(self.run_tool("perplexity", *common).stdout)
        # Noise: the logits spread by about 1, which costs a little against guessing.
        self.assertTrue(150 < found["ppl"] < 1500, found)
        self.assertLess(json.loads(self.run_tool("kld", "--base", self.out, *common).stdout)["kld_max"], 1e-9)
        found = json.loads(self.run_tool("bench", "--model", self.out, "-p", 8, "-n", 2, "-r", 1, "--json").stdout)
        self.assertGreater(found["pp_tok_s"], 0)
        ids = json.loads(self.run_tool("tokenize", "--model", self.out, input='"a<|im_end|>"\n').stdout)
        self.assertEqual(ids, [97, 258])
        message = json.dumps({"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": True})
        self.assertEqual(self.run_tool("render", "--model", self.out, input=message).stdout,
                         "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")

    def test_refusals(self):
        self.refused(2, "--bits", "--bits", 9)
        self.refused(2, "--bf16", "--bits", 4, "--bf16")
        self.refused(2, "--vocab", "--vocab", 260)
        self.refused(2, "--layers", "--layers", 0)
        self.refused(2, "--shape", "--shape", "7b")
        self.out.mkdir()
        (self.out / "notes.txt").write_text("mine")
        self.refused(2, "expected an empty folder")
        self.synth("--force")
        self.assertEqual((self.out / "notes.txt").read_text(), "mine")

    def test_a_disk_that_is_full_leaves_nothing_that_opens(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        self.refused(1, "model.safetensors", preexec_fn=limit)
        names = set(self.contents())
        self.assertFalse(names & {"model.safetensors", "config.json", "model.safetensors.index.json"}, names)
        done = self.run_tool("bench", "--model", self.out, code=1)
        self.assertIn("unfinished", done.stderr)
        self.synth("--force")
        self.assertNotIn(".hlwq-state.json", self.contents())


if __name__ == "__main__":
    unittest.main()
