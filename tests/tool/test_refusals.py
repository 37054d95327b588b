"""What the program refuses, how it says so, and what it leaves alone."""
import json
import os
import resource
import shutil
import struct
import subprocess
import unittest

import checkpoints
from harness import DENSE, MOE, TOOL, Case, contents, run, run_json


class Refusals(Case):
    def model(self, tensors):
        folder = self.scratch / "in"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        checkpoints.write_file(folder / "model.safetensors", tensors)
        return folder

    def test_usage(self):
        for arguments in ([], ["quantise"], ["quantize"], ["quantize", MOE], ["quantize", MOE, self.out, "--bits", 9],
                          ["quantize", MOE, self.out, "--bits", 1], ["quantize", MOE, self.out, "--encoder", "best"],
                          ["quantize", MOE, self.out, "--codebook", "c"], ["quantize", MOE, self.out, "--policy", "none"],
                          ["quantize", MOE, self.out, "--format", "gguf"], ["quantize", MOE, self.out, "--max-ram", "lots"],
                          ["quantize", MOE, self.out, "--shard-size", "0"], ["quantize", MOE, self.out, "--threads", 0],
                          ["quantize", MOE, self.out, "--resume", "--force"],
                          ["dequantize", MOE, self.out, "--dtype", "f8"], ["info"], ["compare", MOE]):
            self.refused(2, arguments=arguments)
        self.assertFalse(self.out.exists())
        self.assertIn("quantize", run("--help")[0])
        self.assertIn("--max-ram", run("quantize", "--help")[0])
        self.assertRegex(run("--version")[0], r"^hlwq \d+\.\d+\.\d+ \(\w+, (highway|xsimd|scalar)\)\n$")

    def test_missing_and_broken_input(self):
        self.refused(1, self.scratch / "none", arguments=["quantize", self.scratch / "none", self.out])
        self.refused(1, arguments=["info", self.scratch / "none"])
        self.refused(1, arguments=["compare", MOE, self.scratch / "none"])
        (self.scratch / "empty").mkdir()
        self.refused(1, "safetensors", arguments=["info", self.scratch / "empty"])
        shutil.copytree(MOE, self.scratch / "cut")
        data = (MOE / "model.safetensors").read_bytes()
        for length in (0, 7, 8, 1000, len(data) - 1):
            (self.scratch / "cut/model.safetensors").write_bytes(data[:length])
            self.refused(1, "model.safetensors", arguments=["quantize", self.scratch / "cut", self.out])
        self.assertFalse(self.out.exists())

    def test_weights_that_are_no_numbers(self):
        weights = bytearray(checkpoints.weights(1, 300 * 256))
        for bits, word in ((0x7fc0, "NaN"), (0x7f80, "infinity")):
            struct.pack_into("<H", weights, 2 * (277 * 256 + 19), bits)
            folder = self.model({"layers.0.q_proj.weight": ("BF16", [300, 256], bytes(weights))})
            self.refused(1, "layers.0.q_proj.weight", "row 277", "column 19", word, arguments=["quantize", folder, self.out])
            self.refused(1, "row 277", "column 19", arguments=[
                "quantize", folder, self.out, "--max-ram", self.least_memory(folder), "--force"])
            self.assertFalse(list(self.out.glob("*.safetensors")))
            shutil.rmtree(self.out)

    def least_memory(self, folder):
        """What the program itself says."""
        done = subprocess.run([TOOL, "quantize", folder, self.scratch / "m", "--max-ram", "1MiB"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 2)
        shutil.rmtree(self.scratch / "m", ignore_errors=True)
        return done.stderr.split("expected at least ")[1].split(" ")[0]

    def test_unknown_large_tensors(self):
        big = checkpoints.weights(2, 65536)
        folder = self.model({"strange.matrix": ("BF16", [256, 256], big), "odd.thing": ("BF16", [2, 128, 256], big),
                             "small.thing": ("BF16", [255, 256], big[:-512]), "layers.0.q_proj.weight": ("BF16", [256, 256], big)})
        self.refused(1, "strange.matrix", "odd.thing", "--keep-unknown", arguments=["quantize", folder, self.out])
        self.assertFalse(self.out.exists())
        run("quantize", folder, self.out, "--keep-unknown")
        written = checkpoints.read_folder(self.out)
        self.assertEqual(written["strange.matrix"], ("BF16", [256, 256], big))
        self.assertIn("layers.0.q_proj.weight__packed", written)
        (self.scratch / "recipe").write_text("strange = 4\nodd = keep\n")
        run("quantize", folder, self.scratch / "r", "--recipe", self.scratch / "recipe")
        self.assertIn("strange.matrix__packed", checkpoints.read_folder(self.scratch / "r"))
        run("dequantize", self.scratch / "r", self.scratch / "back")
        self.assertEqual({n: t[:2] for n, t in checkpoints.read_folder(folder).items()},
                         {n: t[:2] for n, t in checkpoints.read_folder(self.scratch / "back").items()})

    def test_recipes_that_cannot_be_read(self):
        recipe = self.scratch / "recipe"
        for text in ("lm_head = 9", "\n\nlm_head 5", "( = 5"):
            recipe.write_text(text)
            line = text.count("\n") + 1
            self.refused(1, recipe, f"line {line}", arguments=["quantize", MOE, self.out, "--recipe", recipe])
        self.refused(1, "none", arguments=["quantize", MOE, self.out, "--recipe", self.scratch / "none"])

    def test_quantized_input_is_not_quantized_again(self):
        run("quantize", MOE, self.out)
        self.refused(1, "plain", "hlwq", arguments=["quantize", self.out, self.scratch / "twice"])

    def test_folders_with_files(self):
        self.out.mkdir()
        (self.out / "notes.txt").write_text("mine")
        (self.out / "model.safetensors").symlink_to(self.scratch / "elsewhere")
        (self.out / "config.json").symlink_to(self.scratch / "elsewhere")
        (self.scratch / "elsewhere").write_text("untouched")
        self.refused(2, self.out, "--force", "notes.txt", arguments=["quantize", MOE, self.out])
        self.refused(2, "--resume", arguments=["quantize", MOE, self.out, "--resume"])
        run("quantize", MOE, self.out, "--force")
        self.assertEqual((self.out / "notes.txt").read_text(), "mine")
        self.assertEqual((self.scratch / "elsewhere").read_text(), "untouched")
        self.assertFalse((self.out / "model.safetensors").is_symlink())
        self.assertFalse((self.out / "config.json").is_symlink())

    def test_force_replaces_an_earlier_run(self):
        run("quantize", MOE, self.out, "--shard-size", "500kB")
        (self.out / "model-00001-of-00099.safetensors").write_text("of another")
        run("quantize", DENSE, self.out, "--force", "--bits", 3)
        run("quantize", DENSE, self.scratch / "fresh", "--bits", 3)
        (self.scratch / "fresh/model-00001-of-00099.safetensors").write_text("of another")
        self.same_folders(self.out, self.scratch / "fresh")
        (self.out / "model-00001-of-00099.safetensors").unlink()
        run("dequantize", MOE, self.out, "--force")
        self.assertEqual(run_json("info", self.out)["dialect"], "plain")

    def test_output_over_input(self):
        shutil.copytree(MOE, self.scratch / "in")
        (self.scratch / "link").symlink_to(self.scratch / "in")
        before = contents(self.scratch / "in")
        for out in (self.scratch / "in", self.scratch / "link", self.scratch / "in/../in"):
            for option in ([], ["--force"]):
                self.refused(2, arguments=["quantize", self.scratch / "in", out, *option])
        self.assertEqual(before, contents(self.scratch / "in"))
        self.refused(2, "folder", arguments=["quantize", MOE, self.scratch / "in/config.json"])

    def test_dry_run_writes_nothing(self):
        planned = run_json("quantize", MOE, self.out, "--dry-run")
        self.assertFalse(self.out.exists())
        done = run_json("quantize", MOE, self.out)
        for field in ("parameters", "quantized_parameters", "bytes", "bits_per_weight", "shards"):
            self.assertEqual(planned[field], done[field])

    def test_failed_write_leaves_no_final_name(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        self.refused(1, self.out, arguments=["quantize", MOE, self.out], preexec_fn=limit)
        self.assertFalse([name for name in contents(self.out) if name.startswith("model") or name.startswith("polar")])
        run("quantize", MOE, self.out, "--resume")
        run("quantize", MOE, self.scratch / "whole")
        self.same_folders(self.out, self.scratch / "whole")
        self.refused(1, arguments=["dequantize", self.out, self.scratch / "back"], preexec_fn=limit)
        self.assertFalse([name for name in contents(self.scratch / "back") if name.startswith("model")])

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("mount"), "needs root to mount a small file system")
    def test_full_disk(self):
        self.out.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(self.out)], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("no mounts here")
        self.addCleanup(subprocess.run, ["umount", str(self.out)], check=True)
        self.refused(1, "No space left", arguments=["quantize", MOE, self.out])
        self.assertFalse(list(self.out.glob("*.safetensors")))
        self.assertFalse((self.out / "model.safetensors.index.json").exists())

    def test_folder_that_cannot_be_written(self):
        self.refused(1, arguments=["quantize", MOE, "/proc/hlwq-test"])

    def test_closed_standard_output(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([TOOL, "info", MOE], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1, done.stderr)

    def test_names_with_control_characters_stay_on_one_line(self):
        folder = self.model({"evil\n\u001b[31mname": ("BF16", [256, 256], checkpoints.weights(3, 65536))})
        self.refused(1, arguments=["quantize", folder, self.out])


if __name__ == "__main__":
    unittest.main()
