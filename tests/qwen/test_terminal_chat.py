#!/usr/bin/env python3
"""qwen_moe_chat at a terminal: messages, commands, Ctrl-C, history. QWEN_TOOL is the program, HLWQ_TEST_DATA the folder
of models. Escape sequences of the line editor are taken out before anything is compared."""
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from chat_folder import BYTE, ENDLESS, TOOL, make_endless, make_folder

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]|\r")
FIGURES = re.compile(r"\[prompt (\d+) tok(?: \((\d+) cached\))?.* \| answer (\d+) tok.*\]")
PATIENCE = 120


class Terminal:
    """The program at a pseudo terminal."""

    def __init__(self, *arguments, **environment):
        self.seen = ""
        self.raw = b""
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "VISUAL", "EDITOR", "XDG_STATE_HOME")}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # libedit keeps some words of its own until the end, which a leak checker reports.
            fixed = {"TERM": "xterm", "LC_ALL": "C.UTF-8", "ASAN_OPTIONS": "detect_leaks=0"}
            os.execve(TOOL, [TOOL, *map(str, arguments)], {**kept, **fixed, **environment})

    def read(self):
        """What has come since; False at the end."""
        if not select.select([self.fd], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.raw += data
        self.seen = ESCAPES.sub("", self.raw.decode(errors="replace"))
        return bool(data)

    def wait_for(self, pattern, after=0):
        """The first match behind the position `after` of what was seen."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            match = re.compile(pattern).search(self.seen, after)
            if match:
                return match
            if not self.read():
                break
        raise AssertionError(f"{pattern!r} did not come; behind {after}:\n{self.seen[after:]}")

    def send(self, text):
        os.write(self.fd, text.encode())

    def say(self, text, then=r"\[prompt .*\]\n(?s:.*)> $"):
        """Sends a line and waits; what came behind it."""
        after = len(self.seen)
        self.send(text + "\r")
        self.wait_for(then, after)
        return self.seen[after:]

    def command(self, text):
        return self.say(text, r"\n(?s:.*)> $")

    def leave(self):
        """The exit code, once the program has ended by itself."""
        end = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < end, f"it did not end:\n{self.seen}"
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.fd)


class Chat(unittest.TestCase):
    def setUp(self):
        self.scratch = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.scratch)
        self.model = make_folder(self.scratch / "model")

    def start(self, *arguments, n="8", **environment):
        environment.setdefault("XDG_STATE_HOME", str(self.scratch / "state"))
        length = ["-n", n] if n else []
        t = Terminal("--model", self.model, "--threads", 1, *length, *arguments, **environment)
        self.addCleanup(t.close)
        t.wait_for(r"/help.*\n(?s:.*)> $")
        return t

    def saved(self, t):
        path = self.scratch / "saved.json"
        t.command(f"/save {path}")
        return [(m["role"], m["content"]) for m in json.loads(path.read_text(encoding="utf-8"))["messages"]]

    def asked(self, t):
        return [content for role, content in self.saved(t) if role == "user"]

    def test_the_banner_names_the_instruction_set(self):
        version = subprocess.run([TOOL, "--version"], capture_output=True, check=True, text=True).stdout
        self.assertIn(f" · {re.search(r'[(](.*)[)]', version)[1]} · 1 threads", self.start().seen)

    def test_answers_are_those_of_single_turns_and_reuse_the_conversation(self):
        t = self.start("--system", "Be random.")
        first, second = t.say("Hello größe"), t.say("And now?")
        self.assertNotIn("cached", first)
        self.assertIn("cached", second)
        messages = self.saved(t)
        self.assertEqual([role for role, _ in messages], ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual(messages[1][1], "Hello größe")
        for length in (2, 4):
            rendered = subprocess.run(
                [TOOL, "render", "--model", str(self.model)], capture_output=True, check=True,
                input=json.dumps({"messages": [{"role": r, "content": c} for r, c in messages[:length]],
                                  "add_generation_prompt": True}).encode()).stdout
            alone = subprocess.run([TOOL, "--model", str(self.model), "--raw", "-n", "8", "--no-stats"],
                                   input=rendered + b"\n", capture_output=True, check=True).stdout.decode()
            self.assertEqual(alone.rstrip("\n"), messages[length][1].rstrip("\n"))
        t.send("/exit\r")
        self.assertEqual(t.leave(), 0)

    def test_several_lines_are_one_message(self):
        t = self.start()
        t.send('"""one\r')
        t.wait_for(r"\. $", len(t.seen))
        t.send("two\r")
        t.say('three"""')
        t.send("four\\\r")
        t.wait_for(r"\. $", len(t.seen))
        t.say("five")
        t.say('"""six"""')
        t.say("//slash")
        self.assertEqual(self.asked(t), ["one\ntwo\nthree", "four\nfive", "six", "/slash"])

    def test_pasted_lines_are_one_message(self):
        if b"[200~" not in Path(TOOL).read_bytes():
            self.skipTest("built without libedit")
        t = self.start()
        t.send("say: ")
        t.send("\x1b[200~one\rtwo é\r\x1b[201~")
        t.say(" three")
        t.send("a\x1b\rb")
        t.say("c")
        self.assertEqual(self.asked(t), ["say: one\ntwo é three", "a\nbc"])

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        make_endless(self.model)
        t = self.start(*ENDLESS, n=None)
        after = len(t.seen)
        t.send("Hello\r")
        t.wait_for(r"Hello\n[^\n]", after)
        t.send("\x03")
        t.wait_for(r"\[prompt .* stopped\]\n(?s:.*)> $", after)
        messages = self.saved(t)
        self.assertEqual([role for role, _ in messages], ["user", "assistant"])
        self.assertTrue(messages[1][1])
        t.command("/set n 4")
        t.say("again")
        self.assertEqual(len(self.saved(t)), 4)

    def test_ctrl_c_at_the_prompt(self):
        t = self.start()
        after = len(t.seen)
        t.send("never sent\x03")
        t.wait_for(r"\n> $", after)
        t.say("sent")
        self.assertEqual(self.asked(t), ["sent"])
        after = len(t.seen)
        t.send("\x03")
        t.wait_for(r"Ctrl-C once more(?s:.*)> $", after)
        t.send("\x03")
        self.assertEqual(t.leave(), 130)

    def test_ctrl_d_leaves(self):
        t = self.start()
        t.send("\x04")
        self.assertEqual(t.leave(), 0)

    def test_commands(self):
        t = self.start()
        help_text = t.command("/help")
        for name in ("clear", "regen", "undo", "edit", "read", "system", "think", "set", "stats", "tokens", "save",
                     "load", "exit"):
            self.assertIn("/" + name, help_text)
        self.assertIn("no such command", t.command("/frob"))
        self.assertIn("expected nothing behind it", t.command("/clear all"))
        self.assertIn("there is no answer yet", t.command("/regen"))
        self.assertIn("there is no message yet", t.command("/undo"))
        self.assertIn("no system message", t.command("/system"))
        t.command("/system Be\tbrief.")
        self.assertIn("Be", t.command("/system"))
        t.say("one")
        t.say("two")
        self.assertIn("4 messages, 16 tokens written", t.command("/stats"))
        self.assertIn("taken back: two", t.command("/undo"))
        t.command("/system off")
        self.assertEqual([role for role, _ in self.saved(t)], ["user", "assistant"])
        self.assertRegex(t.command("/tokens"), r"\d+ tokens of 4096")
        self.assertIn(f'{BYTE["a"]} "a"', t.command("/tokens ab"))
        t.command("/clear")
        self.assertEqual(self.saved(t), [])
        t.command("/stats off")
        self.assertNotIn("[prompt", t.say("three", r"three\n(?s:.+)\n> $"))
        self.assertIn("expected on, off or auto", t.command("/think maybe"))
        self.assertIn("nowhere.json", t.command("/load nowhere.json"))
        self.assertIn("expected the name of a file", t.command("/save"))

    def test_settings(self):
        t = self.start("--temp", "0.5", "--seed", "1")
        shown = t.command("/set")
        for part in ("temp 0.5", "top-p 1", "top-k 50", "n 8"):
            self.assertIn(part, shown)
        for text, part in (("temp hot", "expected a number, found hot"), ("temp -1", "temperature: expected"),
                           ("top-p 2", "top_p"), ("frob 1", "no such setting"), ("n", "found nothing")):
            self.assertIn(part, t.command("/set " + text))
        for text in ("temp 0", "top-k 3", "top-p=0.5", "min-p 0.1", "presence-penalty 1", "frequency-penalty 1",
                     "repeat-penalty 1.1", "n 3", "seed 7"):
            self.assertNotIn("error", t.command("/set " + text))
        shown = t.command("/set")
        for part in ("temp 0,", "top-k 3", "top-p 0.5", "min-p 0.1", "repeat-penalty 1.1", "n 3"):
            self.assertIn(part, shown)
        self.assertIn("answer 3 tok", t.say("x"))

    def test_an_answer_is_given_again(self):
        t = self.start("--temp", "3", "--seed", "1")
        t.say("x")
        first = self.saved(t)
        self.assertIn("cached", t.say("/regen"))
        second = self.saved(t)
        self.assertEqual(first[0], second[0])
        self.assertNotEqual(first[1], second[1])
        t.command("/set temp 0")
        t.say("/regen")
        t.say("/regen")
        self.assertEqual(len(self.saved(t)), 2)

    def test_thinking_is_faint_and_kept_apart(self):
        t = self.start("--logit-bias", f"{BYTE['q']}=1000", n="4", NO_COLOR="")
        t.command("/think on")
        before = len(t.raw)
        t.say("x")
        self.assertIn(b"\x1b[2mq\x1b[0m", t.raw[before:])
        self.assertEqual(self.saved(t)[1], ("assistant", ""))
        t.command("/think off")
        t.say("y")
        self.assertEqual(self.saved(t)[3], ("assistant", "qqqq"))
        plain = self.start("--think", n="4", NO_COLOR="1")
        plain.say("x")
        self.assertNotIn(b"\x1b[2m", plain.raw)

    def test_files(self):
        t = self.start()
        file = self.scratch / "notes.txt"
        file.write_text("line one\nline two\n", encoding="utf-8")
        self.assertIn("18 bytes", t.command(f"/read {file}"))
        t.say("What is this?")
        self.assertEqual(self.asked(t), ["line one\nline two\n\nWhat is this?"])
        t.command("/clear")
        self.assertIn("2 messages", t.command(f"/load {self.scratch / 'saved.json'}"))
        t.say("more")
        self.assertEqual(len(self.saved(t)), 4)
        file.write_bytes(b"\xff")
        self.assertIn("expected UTF-8", t.command(f"/read {file}"))
        self.assertIn("found a syntax error at byte 1", t.command(f"/load {file}"))

    def test_an_editor_of_the_users(self):
        script = self.scratch / "my editor.sh"
        script.write_text('#!/bin/sh\nprintf "from the\\neditor\\n" > "$1"\n')
        script.chmod(0o755)
        t = self.start(EDITOR=f"'{script}'", TMPDIR=str(self.scratch))
        t.say("/edit")
        self.assertEqual(self.asked(t), ["from the\neditor"])
        script.write_text("#!/bin/sh\nexit 3\n")
        self.assertIn("ended with an error", t.command("/edit"))

    def test_a_message_that_is_too_long_is_not_kept(self):
        t = self.start("--ctx", "60")
        t.say("short")
        self.assertRegex(t.command("x" * 70), r"prompt: expected fewer tokens than the context, 60, found \d+")
        self.assertEqual(self.asked(t), ["short"])
        t.command("/clear")
        self.assertIn("answer", t.say("short"))

    def test_history(self):
        state = self.scratch / "state"
        t = self.start()
        t.say("remember größe")
        t.send("/exit\r")
        self.assertEqual(t.leave(), 0)
        if b"[200~" not in Path(TOOL).read_bytes():
            self.skipTest("built without libedit")
        self.assertTrue((state / "qwen_moe_chat/history").exists())
        t = self.start()
        t.send("\x1b[A\x1b[A")  # up: /exit, then the message
        t.say(" again")
        self.assertEqual(self.asked(t), ["remember größe again"])
        t.send("/exit\r")
        self.assertEqual(t.leave(), 0)

        shutil.rmtree(state)
        state.write_text("in the way")
        t = self.start()
        t.say("x")
        t.send("/exit\r")
        self.assertEqual(t.leave(), 0)
        self.assertEqual(state.read_text(), "in the way")


if __name__ == "__main__":
    unittest.main()
