"""Runs that are killed, stopped, divided among threads: the output is always the same."""
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

import checkpoints
from harness import MOE, TOOL, Case, contents, run, run_json

SHARDS = ["--shard-size", "60kB"]


class Resume(Case):
    def start(self, *arguments):
        return subprocess.Popen([TOOL, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def killed_run(self, command, source, reference, options, kills):
        """Kills a run again and again at random moments, then lets it end."""
        rng = random.Random(len(str(source)) + kills)
        begin = time.monotonic()
        run(command, source, reference, *options)
        duration = time.monotonic() - begin
        stopped = 0
        for _ in range(kills):
            process = self.start(command, source, self.out, *options, "--resume")
            time.sleep(rng.uniform(0, duration * 0.7))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            stopped += process.returncode == -signal.SIGKILL
            # Whatever has its final name is complete, and the folder is no checkpoint before it is.
            reference_files = contents(reference)
            found = contents(self.out) if self.out.exists() else {}
            for name, data in found.items():
                if not name.startswith(".hlwq-state.json") and not name.endswith(".partial"):
                    self.assertTrue(data == reference_files[name], name)
            if rng.random() < 0.3:
                shutil.rmtree(self.out, ignore_errors=True)
        run(command, source, self.out, *options, "--resume")
        self.same_folders(reference, self.out)
        return stopped

    def test_quantize_killed_at_random_moments(self):
        self.assertGreater(self.killed_run("quantize", MOE, self.scratch / "whole", SHARDS, 25), 5)

    def test_dequantize_killed_at_random_moments(self):
        run("quantize", MOE, self.scratch / "in")
        self.assertGreater(self.killed_run("dequantize", self.scratch / "in", self.scratch / "whole", SHARDS, 12), 2)

    def test_threads_and_memory_do_not_matter(self):
        run("quantize", MOE, self.out, "--threads", 1)
        for threads, memory in ((2, "2GiB"), (3, "40MiB"), (7, "1GB")):
            other = self.scratch / str(threads)
            run("quantize", MOE, other, "--threads", threads, "--max-ram", memory)
            self.same_folders(self.out, other)
        for threads in (1, 3):
            run("dequantize", self.out, self.scratch / f"back{threads}", "--threads", threads)
        self.same_folders(self.scratch / "back1", self.scratch / "back3")
        a, b = (run_json("compare", MOE, self.out, "--threads", threads) for threads in (1, 3))
        self.assertEqual(a, b)

    def unfinished(self, *options):
        """Leaves an output folder with some finished files, and the whole output beside it."""
        run("quantize", MOE, self.scratch / "whole", *SHARDS, *options)
        while True:
            process = self.start("quantize", MOE, self.out, *SHARDS, *options)
            while process.poll() is None and len(list(self.out.glob("model-*.safetensors"))) < 3:
                pass
            process.kill()
            process.communicate()
            if (self.out / ".hlwq-state.json").exists():
                return
            shutil.rmtree(self.out)

    def test_other_options_are_refused_by_name(self):
        self.unfinished("--bits", 5)
        before = contents(self.out)
        for options in (["--bits", 4], ["--bits", 5, "--encoder", "nearest"], ["--bits", 5, "--codebook", "converged"],
                        ["--bits", 5, "--format", "polar-v5"], ["--bits", 5, "--policy", "package"],
                        ["--bits", 5, "--keep-unknown"], ["--bits", 5, "--head-bits", 8]):
            named = [option for option in options if str(option).startswith("--")][-1]
            self.refused(2, "--resume", named, arguments=["quantize", MOE, self.out, *SHARDS, *options, "--resume"])
        self.refused(2, "--shard-size", arguments=["quantize", MOE, self.out, "--bits", 5, "--resume"])
        self.refused(2, "command", arguments=["dequantize", MOE, self.out, *SHARDS, "--resume"])
        self.assertEqual(before, contents(self.out))
        run("quantize", MOE, self.out, *SHARDS, "--bits", 5, "--resume", "--threads", 3)
        self.same_folders(self.scratch / "whole", self.out)

    def test_other_input_is_refused(self):
        self.unfinished()
        shutil.copytree(MOE, self.scratch / "in")
        tensors = checkpoints.read_file(MOE / "model.safetensors")
        tensors["more"] = ("BF16", [4], bytes(8))
        checkpoints.write_file(self.scratch / "in/model.safetensors", tensors)
        self.refused(1, "--resume", "model.safetensors", arguments=[
            "quantize", self.scratch / "in", self.out, *SHARDS, "--resume"])

    def test_damaged_files_are_written_again(self):
        self.unfinished()
        finished = sorted(self.out.glob("model-*.safetensors"))
        for path, damage in zip(finished, (lambda data: data[:-1] + b"x", lambda data: data[:100])):
            path.write_bytes(damage(path.read_bytes()))
        (self.scratch / "elsewhere").write_text("untouched")
        finished[2].unlink()
        finished[2].symlink_to(self.scratch / "elsewhere")
        run("quantize", MOE, self.out, *SHARDS, "--resume")
        self.same_folders(self.scratch / "whole", self.out)
        self.assertEqual((self.scratch / "elsewhere").read_text(), "untouched")

    def test_complete_folder_needs_nothing(self):
        run("quantize", MOE, self.out)
        before = {path: path.stat().st_mtime_ns for path in self.out.iterdir()}
        run("quantize", MOE, self.out, "--resume")
        self.assertEqual(before, {path: path.stat().st_mtime_ns for path in self.out.iterdir()})
        self.refused(2, "--resume", arguments=["quantize", MOE, self.out, "--resume", "--bits", 3])

    def test_errors_measured_before_the_kill_are_reported(self):
        whole = run_json("quantize", MOE, self.scratch / "reference", *SHARDS)
        self.unfinished()
        resumed = run_json("quantize", MOE, self.out, *SHARDS, "--resume")
        self.assertEqual(whole["relative_mse"], resumed["relative_mse"])

    def test_signals_stop_cleanly(self):
        checkpoints.make_moe(self.scratch / "in", layers=2, experts=64)
        run("quantize", self.scratch / "in", self.scratch / "whole", "--shard-size", "2MB")
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.start("quantize", self.scratch / "in", self.out, "--shard-size", "2MB", "--threads", 1)
            while process.poll() is None and len(list(self.out.glob("model-*.safetensors"))) < 1:
                pass
            process.send_signal(number)
            begin = time.monotonic()
            _, err = process.communicate()
            self.assertLess(time.monotonic() - begin, 2)
            if process.returncode == 0:
                self.skipTest("the run was over before the signal")
            self.assertEqual(process.returncode, 128 + number, err)
            self.assertIn(b"--resume", err)
            self.assertFalse(list(self.out.glob("*.partial")))
            self.assertFalse((self.out / "model.safetensors.index.json").exists())
            run("quantize", self.scratch / "in", self.out, "--shard-size", "2MB", "--resume")
            self.same_folders(self.scratch / "whole", self.out)
            shutil.rmtree(self.out)

    def test_two_runs_do_not_share_a_folder(self):
        self.out.mkdir()
        folder = os.open(self.out, os.O_RDONLY)
        import fcntl
        fcntl.flock(folder, fcntl.LOCK_EX)
        self.refused(1, "no other run", arguments=["quantize", MOE, self.out])
        os.close(folder)
        run("quantize", MOE, self.out)


if __name__ == "__main__":
    unittest.main()
