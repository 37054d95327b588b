"""What the tool's tests share: the program, its data, folders compared byte for byte."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

TOOL = os.environ.get("HLWQ_TOOL", str(Path(__file__).parents[2] / "build/release/hlwq"))
DATA = Path(os.environ.get("HLWQ_TEST_DATA", Path(__file__).parents[1] / "data"))
MOE, DENSE = DATA / "moe_tiny", DATA / "dense_tiny"


# Runs that are killed and resumed wait for the disk most of the time; memory will do where there is enough of it.
SHARED_MEMORY = "/dev/shm"
SCRATCH = (SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > 1 << 30
           else None)


def sanitized():
    """Whether the program carries AddressSanitizer, whose memory is not the program's."""
    return b"__asan_init" in Path(TOOL).read_bytes()


def run(*arguments, code=0, **options):
    """Runs the program, expects its exit code, returns what it printed as (stdout, stderr)."""
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def run_json(*arguments, **options):
    """The one JSON object that the program prints."""
    return json.loads(run(*arguments, "--json", **options)[0])


def contents(folder):
    """relative name -> bytes, links marked as such."""
    files = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            files[name] = ("link", os.readlink(path))
        elif path.is_file():
            files[name] = path.read_bytes()
    return files


class Case(unittest.TestCase):
    """A test with a scratch folder."""

    def setUp(self):
        self.scratch = Path(tempfile.mkdtemp(prefix="hlwq-test-", dir=SCRATCH))
        self.addCleanup(shutil.rmtree, self.scratch, ignore_errors=True)
        self.out = self.scratch / "out"

    def refused(self, code, *words, arguments, **options):
        """The program ends with `code`, prints nothing on stdout and one line on stderr that holds all `words`."""
        out, err = run(*arguments, code=code, **options)
        self.assertEqual(out, "")
        lines = [line for line in err.splitlines() if line.startswith("hlwq: error: ")]
        self.assertEqual(len(lines), 1, err)
        for word in words:
            self.assertIn(str(word), lines[0])

    def same_folders(self, a, b):
        self.assertEqual(list(contents(a)), list(contents(b)))
        for name, data in contents(a).items():
            self.assertTrue(data == contents(b)[name], f"{name} differs")
