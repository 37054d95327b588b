"""A model folder for chats: the random weights of moe_tiny with a tokenizer of bytes and a template of our own."""
import json
import os
import shutil
from pathlib import Path

TOOL = os.environ["QWEN_TOOL"]
DATA = Path(os.environ["HLWQ_TEST_DATA"])

TEMPLATE = """{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking %}{{- '<think>\\n' }}{%- endif %}{%- endif %}"""

BYTE = {}  # a byte that is a character -> its id


# Options with which an answer does not end before it is ended.
ENDLESS = ["--ctx", str(1 << 20), "--logit-bias", "509=-inf", "--logit-bias", "511=-inf"]


def make_endless(folder):
    """Gives the model of a folder a context that no test fills."""
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 1 << 20
    (folder / "config.json").write_text(json.dumps(config))


def make_folder(folder):
    """Weights by link, everything else small enough to be changed by a test."""
    folder = Path(folder)
    folder.mkdir()
    os.symlink(DATA / "moe_tiny/model.safetensors", folder / "model.safetensors")
    shutil.copy(DATA / "moe_tiny/config.json", folder)
    tokenizer = json.loads((DATA / "tokenizer/tokenizer_qwen35.json").read_text(encoding="utf-8"))
    vocabulary = {entry: i for entry, i in tokenizer["model"]["vocab"].items() if i < 256}
    BYTE.update((entry, i) for entry, i in vocabulary.items() if "!" <= entry <= "~")
    tokenizer["model"]["vocab"], tokenizer["model"]["merges"] = vocabulary, []
    added = {"<think>": 505, "</think>": 506, "<|endoftext|>": 509, "<|im_start|>": 510, "<|im_end|>": 511}
    tokenizer["added_tokens"] = [
        {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": "|" in content} for content, i in added.items()]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder
