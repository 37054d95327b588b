"""The peak resident set stays under --max-ram, whatever the size of the checkpoint."""
import subprocess
import sys
import unittest

import checkpoints
from harness import TOOL, Case, run, sanitized


# A program inherits the peak of the process that starts it: a small one, not this test with its weights.
LAUNCHER = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)])
_, status, usage = os.wait4(process, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)
"""


def peak(*arguments):
    """Peak resident set of a run, in bytes, as getrusage reports it."""
    done = subprocess.run([sys.executable, "-ISc", LAUNCHER, TOOL, *map(str, arguments)], capture_output=True, text=True,
                          check=True)
    code, resident = map(int, done.stdout.split())
    assert code == 0, arguments
    return resident


@unittest.skipIf(sanitized(), "memory of a sanitized program is not its own")
class Memory(Case):
    def test_bound(self):
        # 190 MB: experts that are fused, and an embedding that is larger than the bound.
        checkpoints.make_moe(self.scratch / "in", layers=2, experts=64, hidden=512, intermediate=128, vocabulary=100000,
                             shard_bytes=80_000_000)
        bound = 48 << 20
        options = ["--max-ram", "48MiB", "--threads", 3]
        self.assertLess(peak("quantize", self.scratch / "in", self.out, "--encoder", "nearest", "--policy",
                             "linear-layers", *options), bound)
        self.assertLess(peak("dequantize", self.out, self.scratch / "back", *options), bound)
        self.assertLess(peak("compare", self.scratch / "in", self.out, *options), bound)
        self.assertLess(peak("info", self.out), bound)

    def test_least_bound_is_said_and_suffices(self):
        checkpoints.make_moe(self.scratch / "in", layers=2, experts=16)
        _, err = run("quantize", self.scratch / "in", self.out, "--max-ram", "3MiB", code=2)
        least = int(err.split("expected at least ")[1].split("MiB")[0])
        self.assertFalse(self.out.exists())
        self.assertLess(peak("quantize", self.scratch / "in", self.out, "--max-ram", f"{least}MiB"),
                        least << 20)


if __name__ == "__main__":
    unittest.main()
