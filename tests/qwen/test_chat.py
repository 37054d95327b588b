#!/usr/bin/env python3
"""qwen_moe_chat chat without a terminal: one answer, its options, its refusals. QWEN_TOOL is the program,
HLWQ_TEST_DATA the folder of models."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from chat_folder import BYTE, ENDLESS, TEMPLATE, TOOL, make_endless, make_folder


class Chat(unittest.TestCase):
    def setUp(self):
        self.scratch = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.scratch)
        self.model = make_folder(self.scratch / "model")

    def command(self, *arguments, n="12"):
        length = [] if n is None else ["-n", n]
        return [TOOL, *map(str, arguments), "--model", str(self.model), "--threads", "1", *length]

    def run_tool(self, *arguments, n="12", **options):
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.command(*arguments, n=n), capture_output=True, timeout=300, **options)

    def answer(self, *arguments, **options):
        result = self.run_tool(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def refused(self, code, *parts, arguments=(), **options):
        result = self.run_tool(*arguments, **options)
        error = result.stderr.decode()
        self.assertEqual((result.returncode, result.stdout), (code, b""), error)
        self.assertTrue(error.splitlines()[-1].startswith("qwen_moe_chat: error: "), error)
        for part in parts:
            self.assertIn(part, error.splitlines()[-1])

    def test_the_prompt_comes_from_an_option_a_file_or_a_pipe(self):
        text = "Hello, größe 你好!"
        expected = self.answer("-p", text)
        self.assertTrue(expected.strip())
        file = self.scratch / "prompt.txt"
        file.write_text(text + "\n", encoding="utf-8")
        for arguments, piped in (
            (["chat", "-p", text], None),
            (["--prompt", text], None),
            (["-f", file], None),
            (["-f", "-"], text),
            ([], text),
            (["chat"], text + "\n"),
        ):
            found = self.answer(*arguments, **({"input": piped.encode()} if piped else {}))
            self.assertEqual(found, expected, arguments)
        self.assertNotEqual(self.answer("-p", text + "?"), expected)

    def test_a_pipe_that_nobody_writes_to_does_not_matter_beside_a_prompt(self):
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        self.answer("-p", "x", stdin=read)

    def test_only_the_answer_stands_on_stdout(self):
        result = self.run_tool("-p", "x")
        self.assertRegex(result.stderr.decode(), r"^\[prompt 20 tok .* \| answer 12 tok .* cut at the limit of tokens\]\n$")
        quiet = self.run_tool("-p", "x", "--no-stats")
        self.assertEqual((quiet.stdout, quiet.stderr), (result.stdout, b""))
        self.assertTrue(quiet.stdout.endswith(b"\n"))

    def test_the_template_makes_the_prompt(self):
        messages = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "x"}],
                    "add_generation_prompt": True}
        rendered = subprocess.run([TOOL, "render", "--model", str(self.model)], input=json.dumps(messages).encode(),
                                  capture_output=True, check=True).stdout
        self.assertEqual(rendered.decode(), "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"
                                            "<|im_start|>assistant\n")
        self.assertEqual(self.answer("--raw", input=rendered + b"\n"), self.answer("-p", "x", "--system", "S"))
        self.assertNotEqual(self.answer("-p", "x", "--system", "S"), self.answer("-p", "x"))

    def test_thinking_stands_on_stderr(self):
        off = self.run_tool("-p", "x", "--no-stats", "--no-think")
        self.assertEqual(off.stdout, self.answer("-p", "x"))
        on = self.run_tool("-p", "x", "--no-stats", "--think")
        self.assertEqual(on.stdout, b"")  # a random model never ends its thinking
        self.assertTrue(on.stderr)
        ended = self.run_tool("-p", "x", "--no-stats", "--think", "--logit-bias", "506=1000", n="1")
        self.assertEqual((ended.stdout, ended.stderr), (b"", b""))

    def test_sampling_options(self):
        greedy = self.answer("-p", "x")  # without a generation_config.json
        self.assertEqual(self.answer("-p", "x", "--temp", "0"), greedy)
        self.assertEqual(self.answer("-p", "x", "--temp", "3", "--top-k", "1"), greedy)
        self.assertEqual(self.answer("-p", "x", "--temp", "3", "--top-p", "0"), greedy)
        self.assertEqual(self.answer("-p", "x", "--temp", "3", "--min-p", "1"), greedy)
        self.assertEqual(self.answer("-p", "x", "--logit-bias", f"{BYTE['q']}=1000"), b"q" * 12 + b"\n")
        self.assertEqual(self.answer("-p", "x", "--logit-bias", f"{BYTE['q']}=1000", "--logit-bias",
                                     f"{BYTE['r']}=900", "--frequency-penalty", "60"), b"qqrqrqrqrqrq\n")
        self.assertEqual(self.answer("-p", "x", "--logit-bias", f"{BYTE['q']}=1000", "--logit-bias",
                                     f"{BYTE['r']}=900", "--presence-penalty", "150"), b"q" + b"r" + b"q" * 10 + b"\n")
        self.assertEqual(self.answer("-p", "q", "--logit-bias", f"{BYTE['q']}=1000", "--logit-bias",
                                     f"{BYTE['z']}=900", "--repeat-penalty", "2", n="1"), b"z\n")

    def test_the_same_seed_gives_the_same_text(self):
        hot = ["-p", "x", "--temp", "2", "--top-k", "0", *ENDLESS[2:]]
        first = self.answer(*hot, "--seed", "5")
        self.assertEqual(self.answer(*hot, "--seed", "5"), first)
        self.assertNotEqual(self.answer(*hot, "--seed", "6"), first)
        self.assertNotEqual(self.answer(*hot), self.answer(*hot))

    def test_output_is_always_characters(self):
        for seed in range(5):
            self.answer("-p", "x", "--temp", "5", "--top-k", "0", "--seed", seed, n="60").decode("utf-8")

    def test_limits_and_stop_strings(self):
        long = self.answer("-p", "x", n="40").decode()
        self.assertTrue(long.startswith(self.answer("-p", "x", n="1").decode().rstrip("\n\ufffd")))
        stop = long[5:9]
        self.assertEqual(self.answer("-p", "x", "--stop", "nothing like it", "--stop", stop, n="40").decode().rstrip("\n"),
                         long[:long.index(stop)].rstrip("\n"))
        result = self.run_tool("-p", "x", "--ctx", "28", n=None)
        self.assertIn("answer 8 tok", result.stderr.decode())
        self.assertIn("context full", result.stderr.decode())
        end = self.run_tool("-p", "x", "--logit-bias", "511=1000")
        self.assertEqual(end.stdout, b"")
        self.assertIn("answer 0 tok", end.stderr.decode())

    def test_generation_config_gives_the_defaults(self):
        greedy = self.answer("-p", "x")
        config = self.model / "generation_config.json"
        config.write_text(json.dumps({"do_sample": True, "temperature": 4.0, "top_k": 0, "max_new_tokens": 7}))
        self.assertNotEqual(self.answer("-p", "x", "--seed", "1"), greedy)
        self.assertEqual(self.answer("-p", "x", "--temp", "0"), greedy)
        self.assertIn("answer 7 tok", self.run_tool("-p", "x", "--temp", "0", n=None).stderr.decode())
        config.write_text(json.dumps({"do_sample": False, "temperature": 4.0}))
        self.assertEqual(self.answer("-p", "x", "--seed", "1"), greedy)
        config.write_text(json.dumps({"eos_token_id": [BYTE["q"]]}))
        self.assertEqual(self.answer("-p", "x", "--logit-bias", f"{BYTE['q']}=1000"), b"")
        config.write_text('{"temperature": "warm"}')
        self.refused(1, 'generation_config.json: temperature: expected a number from 0, found "warm"',
                     arguments=["-p", "x"])
        config.write_text("{")
        self.refused(1, "generation_config.json: expected a JSON object, found a syntax error at byte 2", arguments=["-p", "x"])
        config.unlink()
        changed = json.loads((self.model / "config.json").read_text())
        for level in (changed, changed["text_config"]):
            level["eos_token_id"] = [BYTE["q"]]
            (self.model / "config.json").write_text(json.dumps(changed))
            self.assertEqual(self.answer("-p", "x", "--logit-bias", f"{BYTE['q']}=1000"), b"")
            level["eos_token_id"] = 3

    def test_bad_data(self):
        self.refused(1, "-p: expected UTF-8, found byte 0xff at offset 1", arguments=["-p", b"a\xff".decode("utf-8", "surrogateescape")])
        self.refused(1, "--system: expected UTF-8", arguments=["-p", "x", "--system", "\udcc3"])
        self.refused(1, "standard input: expected UTF-8, found byte 0xc3 at offset 0", input=b"\xc3(")
        self.refused(1, "standard input: expected a prompt, found nothing", input=b"")
        self.refused(1, "standard input: expected a prompt, found nothing", input=b"\n")
        self.refused(1, "nowhere.txt", arguments=["-f", self.scratch / "nowhere.txt"])
        file = self.scratch / "latin1.txt"
        file.write_bytes(b"caf\xe9")
        self.refused(1, "latin1.txt: expected UTF-8, found byte 0xe9 at offset 3", arguments=["-f", file])
        self.refused(1, "prompt: expected fewer tokens than the context, 50, found 69",
                     arguments=["-p", "x" * 50, "--ctx", "50"])
        self.refused(1, "the context, 4096, found 5019", arguments=["-p", "x" * 5000])
        (self.model / "chat_template.jinja").write_text("{{ raise_exception('Not like this.') }}")
        self.refused(1, "Not like this.", arguments=["-p", "x"])
        (self.model / "chat_template.jinja").unlink()
        self.refused(1, "expected chat_template.jinja, or a chat_template in tokenizer_config.json",
                     arguments=["-p", "x"])
        (self.model / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
        self.answer("-p", "x")
        (self.model / "tokenizer.json").unlink()
        self.refused(1, "tokenizer.json", arguments=["-p", "x"])
        (self.model / "model.safetensors").unlink()
        self.refused(1, "model", arguments=["-p", "x"])

    def test_wrong_usage(self):
        for arguments, part in (
            (["-p", ""], "-p: expected a text"),
            (["-p", "x", "-f", "y"], "excludes"),
            (["-p", "x", "--ctx", "5000"], "--ctx: expected at most 4096, the context of the model, found 5000"),
            (["-p", "x", "--temp", "-1"], "--temp"),
            (["-p", "x", "--top-p", "1.5"], "--top-p"),
            (["-p", "x", "--min-p", "nan"], "--min-p"),
            (["-p", "x", "--top-k", "-3"], "--top-k"),
            (["-p", "x", "--repeat-penalty", "0"], "--repeat-penalty"),
            (["-p", "x", "--logit-bias", "7"], "--logit-bias: expected ID=VALUE, found 7"),
            (["-p", "x", "--logit-bias", "a=1"], "--logit-bias: expected the id of a token"),
            (["-p", "x", "--logit-bias", "512=1"], "--logit-bias: expected a token id below 512"),
            (["-p", "x", "--logit-bias", "1=inf"], "--logit-bias: expected a number or -inf"),
            (["-p", "x", "--stop", ""], "--stop: expected a text"),
            (["-p", "x", "--think", "--no-think"], "excludes"),
            (["-p", "x", "--raw", "--system", "y"], "excludes"),
            (["-p", "x", "--no-such-option"], "--no-such-option"),
            (["-p", "x", "stray"], "stray"),
            (["frobnicate"], "expected a command or an option, found frobnicate"),
        ):
            self.refused(2, part, arguments=arguments)
        self.refused(2, "-n", arguments=["-p", "x"], n="0")

    def test_ctrl_c_ends_with_what_was_written(self):
        make_endless(self.model)
        full = self.answer("-p", "x", *ENDLESS, n="60")
        process = subprocess.Popen(self.command("-p", "x", *ENDLESS, n=None), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 130, err)
        written = (first + out).decode().rstrip("\n\ufffd")  # the last character may have been cut
        full = full.decode().rstrip("\n\ufffd")
        self.assertTrue(written.startswith(full) or full.startswith(written), written)
        self.assertIn(b"stopped", err)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run(self.command("-p", "x"), stdin=subprocess.DEVNULL, stdout=full,
                                    stderr=subprocess.PIPE, timeout=300)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"error: standard output", result.stderr)
        make_endless(self.model)
        process = subprocess.Popen(self.command("-p", "x", *ENDLESS, n=None), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=300), 1, err)


if __name__ == "__main__":
    unittest.main()
