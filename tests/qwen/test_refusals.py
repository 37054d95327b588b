#!/usr/bin/env python3
"""Bad input of every kind: the program ends with 1 (2 for usage), prints nothing on stdout and one line on stderr, `error:
what, where, expected, found`, behind its remarks, and leaves no file. QWEN_TOOL is the program, HLWQ_TEST_DATA the
folder of models."""
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from chat_folder import DATA, TOOL, make_folder

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tool"))
import checkpoints  # noqa: E402

EMBEDDING = "model.language_model.embed_tokens.weight"
NORM = "model.language_model.layers.0.linear_attn.norm.weight"


class Case(unittest.TestCase):
    def setUp(self):
        self.scratch = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.scratch)
        self.model = make_folder(self.scratch / "model")
        self.ids = self.scratch / "ids.json"
        self.ids.write_text("[1, 2, 3]")
        self.out = self.scratch / "out" / "out.safetensors"
        self.out.parent.mkdir()

    def run_tool(self, *arguments, input="", **options):
        input = input if isinstance(input, bytes) else input.encode()
        return subprocess.run([TOOL, *map(str, arguments)], input=input, capture_output=True, timeout=300, **options)

    def refused(self, *parts, arguments, code=1, **options):
        result = self.run_tool(*arguments, "--model", self.model, **options)
        lines = result.stderr.decode().splitlines()
        self.assertEqual((result.returncode, result.stdout), (code, b""), result.stderr)
        errors = [line for line in lines if line.startswith("qwen_moe_chat: error: ")]
        self.assertEqual(errors, lines[-1:], result.stderr)
        for line in lines:
            self.assertTrue(line.startswith("qwen_moe_chat: "), result.stderr)
        for part in parts:
            self.assertIn(part, lines[-1])
        self.assertEqual(list(self.out.parent.iterdir()), [])

    def logits(self, *parts, **options):
        self.refused(*parts, arguments=["logits", "--ids", self.ids, "--out", self.out], **options)

    def chat(self, *parts, **options):
        self.refused(*parts, arguments=["chat", "-p", "Hi", "-n", 2], **options)

    def tokenize(self, *parts, **options):
        self.refused(*parts, arguments=["tokenize"], **{"input": '"a"', **options})

    def render(self, *parts, variables=None, **options):
        text = json.dumps(variables or {"messages": [{"role": "user", "content": "a"}]})
        self.refused(*parts, arguments=["render"], **{"input": text, **options})


class Checkpoint(Case):
    def tensors(self, change):
        """The model with its tensors, name -> (dtype, shape, bytes), changed."""
        path = self.model / "model.safetensors"
        tensors = checkpoints.read_file(DATA / "moe_tiny/model.safetensors")
        change(tensors)
        path.unlink()
        checkpoints.write_file(path, tensors)

    def test_a_missing_tensor(self):
        self.tensors(lambda t: t.pop(NORM))
        self.logits(f"tensor {NORM} ", "expected [", "found no tensor of that name")
        self.chat(f"tensor {NORM} ")

    def test_a_wrong_shape(self):
        def transpose(t):
            dtype, shape, data = t[EMBEDDING]
            t[EMBEDDING] = (dtype, shape[::-1], data)

        self.tensors(transpose)
        self.logits(f"tensor {EMBEDDING} (model.safetensors): expected [512, 64], found BF16 [64, 512]")

    def test_a_wrong_type(self):
        def integers(t):
            dtype, shape, data = t[NORM]
            t[NORM] = ("I32", shape, b"\0" * (4 * len(data) // checkpoints.SIZES[dtype]))

        self.tensors(integers)
        self.logits(f"tensor {NORM} (model.safetensors): expected BF16, F16, F32 or packed codes, found I32")

    def test_a_missing_shard(self):
        tensors = checkpoints.read_file(DATA / "moe_tiny/model.safetensors")
        (self.model / "model.safetensors").unlink()
        names = sorted(tensors)
        parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
        for file, held in parts.items():
            checkpoints.write_file(self.model / file, {name: tensors[name] for name in held})
        weight_map = {name: file for file, held in parts.items() for name in held}
        (self.model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        result = self.run_tool("logits", "--ids", self.ids, "--out", self.out, "--model", self.model)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.out.unlink()
        (self.model / "model-00002-of-00002.safetensors").unlink()
        self.logits("model-00002-of-00002.safetensors")

    def test_damaged_weights(self):
        raw = (DATA / "moe_tiny/model.safetensors").read_bytes()
        path = self.model / "model.safetensors"
        for content, part in (
            (b"", "model.safetensors"),
            (raw[:5], "model.safetensors"),
            (raw[:-1], "model.safetensors"),
            (raw + b"x", "model.safetensors"),
            (b"\xff" * 64, "model.safetensors"),
            (raw[:20] + b"\0" + raw[21:], "found a zero byte at byte 12"),
        ):
            path.unlink()
            path.write_bytes(content)
            self.logits(part)
        path.unlink()
        self.logits(str(self.model))

    def test_folders_that_cannot_be_read(self):
        self.model = self.scratch / "nowhere"
        self.logits("nowhere")
        self.chat("nowhere")
        self.tokenize("nowhere")
        self.render("nowhere")
        self.model.write_text("a file")
        self.logits("nowhere")
        self.tokenize("nowhere")
        self.model.unlink()
        self.model.mkdir()
        self.logits("nowhere")
        self.tokenize("tokenizer.json")

    @unittest.skipIf(os.geteuid() == 0, "root reads every folder")
    def test_a_folder_without_permission(self):
        os.chmod(self.model, 0)
        self.addCleanup(os.chmod, self.model, 0o700)
        self.logits(str(self.model))


class Configuration(Case):
    def write(self, content):
        (self.model / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())

    def changed(self, **fields):
        config = json.loads((DATA / "moe_tiny/config.json").read_text())
        for key, value in fields.items():
            place = config["text_config"]["rope_parameters"] if key.startswith("rope_") else config["text_config"]
            (config if key == "architectures" else place)[key] = value
        self.write(json.dumps(config))

    def test_what_is_no_configuration(self):
        good = (DATA / "moe_tiny/config.json").read_bytes()
        for content, part in (
            ("", "config.json: expected JSON, found nothing"),
            ("{", "config.json: expected JSON, found a syntax error at byte 2"),
            (good[:-20], "config.json: expected JSON, found a syntax error"),
            (good + b"\0", "config.json: expected JSON, found a zero byte at byte"),
            (good + b"\0{}", "config.json: expected JSON, found a zero byte at byte"),
            (good + b"{}", "config.json: expected JSON, found a syntax error"),
            ("[1]", "config.json: expected a JSON object, found an array"),
            ("{}", "config.json"),
            ("[" * 100000, "config.json: expected JSON"),
            ('{"a": ' * 70 + "1" + "}" * 70, "config.json: expected JSON, found nesting deeper than 64"),
            (b'{"model_type": "\xff"}', "config.json: expected JSON, found a syntax error"),
        ):
            self.write(content)
            self.logits(part)

    def test_models_of_other_kinds(self):
        for fields, parts in (
            ({"model_type": "llama"}, ("text_config.model_type: expected qwen3_5_moe", 'found "llama"')),
            ({"rope_type": "yarn"}, ("rope_parameters.rope_type: expected default", 'found "yarn"')),
            ({"architectures": ["LlamaForCausalLM"]}, ("architectures: expected Qwen3_5", 'found ["LlamaForCausalLM"]')),
            ({"layer_types": ["sliding_attention"] * 8}, ("layer 0: expected linear_attention", "sliding_attention")),
            ({"hidden_size": 0}, ("hidden_size: expected an integer from 1", "found 0")),
            ({"hidden_size": "64"}, ("hidden_size: expected an integer from 1", 'found "64"')),
            ({"hidden_size": None}, ("hidden_size: expected an integer from 1", "found none")),
            ({"hidden_size": 1e300}, ("hidden_size: expected an integer from 1", "found 1e+300")),
            ({"num_experts_per_tok": 99}, ("num_experts_per_tok: expected at most num_experts", "found 99")),
            ({"eos_token_id": 512}, ("eos_token_id: expected token ids below vocab_size", "found 512")),
        ):
            self.changed(**fields)
            self.logits(*parts)

    def test_generation_settings(self):
        path = self.model / "generation_config.json"
        for content, part in (
            ("", "generation_config.json: expected a JSON object, found nothing"),
            ("{", "generation_config.json: expected a JSON object, found a syntax error"),
            ("{}\0", "generation_config.json: expected a JSON object, found a zero byte"),
            ("[]", "generation_config.json: expected a JSON object, found array"),
            ('{"temperature": "hot"}', 'temperature: expected a number from 0, found "hot"'),
            ('{"temperature": -1}', "temperature: expected a number from 0, found -1"),
            ('{"top_p": 2}', "top_p: expected a number from 0 to 1, found 2"),
            ('{"eos_token_id": [1, "x"]}', 'eos_token_id: expected a token id or a list of them, found "x"'),
            ('{"eos_token_id": 512}', "eos_token_id: expected token ids below 512, found 512"),
        ):
            path.write_text(content)
            self.chat(part)


class Tokenizer(Case):
    def change(self, change):
        path = self.model / "tokenizer.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    def test_damaged_files(self):
        path = self.model / "tokenizer.json"
        good = path.read_bytes()
        for content, part in (
            (b"", "expected JSON, found a syntax error"),
            (good[: len(good) // 2], "expected JSON, found a syntax error"),
            (good[:-1], "expected JSON, found a syntax error"),
            (good + b"\0", "found a zero byte"),
            (good + b"x", "expected JSON, found a syntax error"),
            (b"[]", "expected an object"),
            (b"{}", "expected an object 'model'"),
            (good.replace(b'"vocab"', b'"vacob"'), "model.vocab: expected entries, found none"),
            (b"\xff" + good, "expected JSON, found a syntax error"),
        ):
            path.write_bytes(content)
            self.tokenize("tokenizer tokenizer.json: ", part)
        self.refused("tokenizer.json", arguments=["detokenize"], input="[1]")
        self.chat("tokenizer.json")
        path.unlink()
        self.tokenize("tokenizer.json")

    def test_entries_that_contradict_each_other(self):
        self.change(lambda t: t["model"]["vocab"].update(abc=1))
        self.tokenize("id 1: expected one entry")
        self.change(lambda t: t["model"]["vocab"].update(abc=4_000_000_000))
        self.tokenize("found 4000000000")
        self.change(lambda t: t["model"]["vocab"].update(abc=-1))
        self.tokenize("unexpected value")

    def test_merges_of_unknown_symbols(self):
        self.change(lambda t: t["model"].update(merges=["a b"]))
        self.tokenize("merge 0: expected two entries of the vocabulary that make a third, found 'a' and 'b'")

    def test_patterns(self):
        def pattern(text):
            return lambda t: t["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=text)

        self.change(pattern("(a"))
        self.tokenize("pre-tokenizer pattern: missing closing parenthesis at character 2")
        self.change(pattern("(a+)+[bc]"))
        self.tokenize("the pre-tokenizer pattern gave up at byte 0", input=json.dumps("a" * 200))

    def test_ids_beyond_the_model(self):
        self.change(lambda t: t["added_tokens"].append({"id": 600, "content": "<far>"}))
        self.refused("token id: expected below 512, found 600", arguments=["chat", "-p", "<far>", "-n", 2])

    def test_lines_that_are_no_strings_or_ids(self):
        for line, part in (
            (b"abc", "standard input, line 2: expected one JSON value, found a syntax error"),
            (b'"a" "b"', "standard input, line 2: expected one JSON value, found a syntax error"),
            (b'"a\xff"', "standard input, line 2: expected one JSON value, found a syntax error"),
            (b'"\xed\xa0\x80"', "standard input, line 2: expected one JSON value, found a syntax error"),
            (b'"a"\0', "standard input, line 2: expected one JSON value, found a zero byte"),
            (b'["a"]', "standard input, line 2: expected a string, found array"),
            (b'"\\ud800"', "standard input, line 2: expected one JSON value, found a syntax error"),
        ):
            self.tokenize(part, input=b'"good"\n' + line + b"\n")
        for line, part in (
            (b'"a"', "standard input, line 2: expected a list of ids, found string"),
            (b"[512]", "standard input, line 2: expected ids below 512, found 512"),
            (b"[-1]", "standard input, line 2: expected ids below 512, found -1"),
            (b"[1.5]", "standard input, line 2: expected ids below 512, found 1.5"),
            (b"[1", "standard input, line 2: expected one JSON value, found a syntax error"),
        ):
            self.refused(part, arguments=["detokenize"], input=b"[1]\n" + line + b"\n")


class Template(Case):
    def test_templates_that_fail(self):
        for text, part in (
            ("a\n{% include 'x' %}", "chat_template.jinja, line 2: unknown statement 'include'"),
            ("a\n\n{{ messages|frob }}", "chat_template.jinja, line 3: unknown filter 'frob'"),
            ("{{ messages", "chat_template.jinja, line 1: '{{' is never closed"),
            ("{% for m in messages %}", "chat_template.jinja, line 1: expected 'else', found the end of the template"),
            ("{{ raise_exception('Only here.') }}", "Only here."),
            ("{{ raise_exception('two\nlines') }}", "two lines"),
            ("{% for a in range(99999) %}\n{% for b in range(99999) %}\n{% endfor %}{% endfor %}",
             "chat_template.jinja, line 2: the template does not come to an end"),
            ("{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}", "chat_template.jinja, line 1: macro calls nested"),
            ("{{ " + "(" * 5000 + "}}", "chat_template.jinja, line 1: nesting deeper than 200"),
            ("{{ " + "not " * 5000 + "a }}", "chat_template.jinja, line 1: nesting deeper than 200"),
            ("{{ 'a'" + " ~ 'a'" * 5000 + " }}", "chat_template.jinja, line 1: an expression of more than 500 steps"),
            ("{{ 'a' * 99999999999 }}", "chat_template.jinja, line 1: a string beyond 64 MiB"),
        ):
            (self.model / "chat_template.jinja").write_text(text)
            self.render(part)
            self.chat(part)
        (self.model / "chat_template.jinja").write_bytes(b"a\nb\xff")
        self.render("chat_template.jinja, line 2: expected UTF-8")

    def test_no_template(self):
        (self.model / "chat_template.jinja").unlink()
        self.render("expected chat_template.jinja, or a chat_template in tokenizer_config.json, found neither")
        path = self.model / "tokenizer_config.json"
        path.write_text("{")
        self.render("tokenizer_config.json: expected a JSON object, found a syntax error")
        path.write_text('{"chat_template": 1}')
        self.render("expected chat_template.jinja, or a chat_template in tokenizer_config.json, found neither")
        path.write_text(json.dumps({"chat_template": "{{ x.y }}"}))
        self.render("chat_template of tokenizer_config.json, line 1: nothing has no attribute 'y'")

    def test_conversations_that_are_none(self):
        for text, part in (
            ("", "standard input: expected a JSON object with a list 'messages', found nothing"),
            ("{", "found a syntax error at byte 2"),
            ("[]", "standard input: expected a JSON object with a list 'messages', found another"),
            ('{"messages": 1}', "standard input: expected a JSON object with a list 'messages', found another"),
            (b'{"messages": ["\xff"]}', "found a syntax error"),
            ('{"messages": []}\0', "found a zero byte at byte 16"),
            ('{"messages": ' + "[" * 70 + "]" * 70 + "}", "found nesting deeper than 64"),
        ):
            self.render(part, input=text)


class Prompt(Case):
    def test_bytes_that_are_not_utf8(self):
        wrong = os.fsdecode(b"a\xff")
        self.refused("-p: expected UTF-8, found byte 0xff at offset 1", arguments=["chat", "-p", wrong])
        file = self.scratch / "prompt.txt"
        file.write_bytes(b"ab\xc3")
        self.refused("prompt.txt: expected UTF-8, found byte 0xc3 at offset 2", arguments=["chat", "-f", file])
        self.refused("standard input: expected UTF-8", arguments=["chat"], input=b"\xed\xa0\x80")
        file.write_bytes(b"")
        self.refused("prompt.txt: expected a prompt, found nothing", arguments=["chat", "-f", file])
        self.refused("nowhere.txt", arguments=["chat", "-f", self.scratch / "nowhere.txt"])
        self.refused(str(self.scratch), arguments=["chat", "-f", self.scratch])

    def test_more_than_the_context(self):
        self.refused("context", arguments=["chat", "-p", "a" * 300, "--ctx", 64, "-n", 2])
        self.ids.write_text(json.dumps([1] * 4097))
        self.logits("at most 4096, the context of the model, found 4097")

    def test_ids_beyond_the_vocabulary(self):
        self.ids.write_text("[1, 512]")
        self.logits("token id: expected below 512, found 512")
        self.ids.write_text("[1]\0")
        self.logits("ids.json: expected a JSON list of token ids, found a zero byte at byte 3")

    def test_wrong_usage(self):
        for arguments in (["frobnicate"], ["chat", "--frob"], ["chat", "-p"], ["chat", "-p", ""], ["chat", "-n", "x"],
                          ["logits"], ["tokenize", "extra"], ["chat", "-p", "a", "-f", "b"]):
            self.refused(arguments=arguments, code=2)


class FullDisk(Case):
    def test_logits(self):
        self.ids.write_text(json.dumps([1] * 40))
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        self.logits("out.safetensors", preexec_fn=limit)

    def test_a_folder_that_is_not_there(self):
        self.out.parent.rmdir()
        result = self.run_tool("logits", "--ids", self.ids, "--out", self.out, "--model", self.model)
        self.assertEqual((result.returncode, result.stdout), (1, b""))
        self.assertIn("out.safetensors", result.stderr.decode().splitlines()[-1])
        self.assertFalse(self.out.parent.exists())

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_standard_output(self):
        messages = json.dumps({"messages": [{"role": "user", "content": "a"}]})
        for arguments, text in (
            (["tokenize"], '"a"\n'),
            (["detokenize"], "[1]\n"),
            (["render"], messages),
            (["chat", "-p", "Hi", "-n", "3"], ""),
        ):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([TOOL, *arguments, "--model", self.model], input=text.encode(), stdout=full,
                                        stderr=subprocess.PIPE, timeout=300)
            errors = [line for line in result.stderr.decode().splitlines() if "error: " in line]
            self.assertEqual((result.returncode, len(errors)), (1, 1), (arguments, result.stderr))
            self.assertTrue(errors[0].startswith("qwen_moe_chat: error: standard output: "), errors)


if __name__ == "__main__":
    unittest.main()
