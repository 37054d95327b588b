#!/usr/bin/env python3
"""Who may include whom, and how long a file may be. Prints what is wrong and ends with 1."""
import re
import subprocess
import sys
from pathlib import Path

LAYERS = [  # a header may include those of lower layers and those before it in its own
    ["config", "error", "float16", "matrix_view", "executor"],
    ["simd/scalar", "simd/x86", "simd/arm", "simd/highway", "simd/xsimd", "simd/backend"],
    ["layout", "distributions", "lloyd_max", "codebook_tables", "codebook", "rotation", "packing", "code_reader"],
    ["packed_matrix", "repack", "rotated_input", "quantize"],
    ["block_dot", "row_panel", "gemv", "gemm", "products", "kv_cache", "expert_cache"],
]
GROUND, SIMD, FORMATS, OBJECTS, PRODUCTS = (set(layer) for layer in LAYERS)
DOORS = {  # the folders and headers beside the layers: what they may include of them
    "hlwq": GROUND | SIMD | FORMATS | OBJECTS | PRODUCTS,
    "thread_pool": GROUND,
    "io/": GROUND | FORMATS | OBJECTS,
    "dispatch/": GROUND | SIMD | FORMATS | OBJECTS | PRODUCTS,
    "cuda/": GROUND | {"layout", "codebook", "packed_matrix"},
}
LONGEST = 600


def allowed(header):
    for door, below in DOORS.items():
        if header == door or (door.endswith("/") and header.startswith(door)):
            return lambda other: other in below or (door.endswith("/") and other.startswith(door))
    for level, layer in enumerate(LAYERS):
        if header in layer:
            below = {name for lower in LAYERS[:level] for name in lower} | set(layer[: layer.index(header)])
            if level == 1:
                below = {"config", "float16"} | SIMD  # the facade stands on the SIMD library alone
            return lambda other: other in below
    return None


files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
complaints = []
for path in map(Path, files.stdout.splitlines()):
    if path.suffix not in {".hpp", ".cpp", ".cuh", ".cu", ".h", ".py", ".sh", ".cmake"} or not path.exists():
        continue
    text = path.read_text(encoding="utf-8")
    if text.count("\n") > LONGEST and not re.search(r"^\W*long file: ", text, re.MULTILINE):
        complaints.append(f"{path}: {text.count(chr(10))} lines; above {LONGEST} a line `// long file: reason` is due")
    if path.parts[:2] != ("include", "hlwq"):
        continue
    header = str(path.relative_to("include/hlwq").with_suffix(""))
    may_include = allowed(header)
    if may_include is None:
        complaints.append(f"{path}: stands in no layer; add it to the table in {Path(__file__).name}")
        continue
    for other in re.findall(r'^\s*#\s*include\s*["<]hlwq/([^">]+)\.(?:hpp|cuh)[">]', text, re.MULTILINE):
        if not may_include(other):
            complaints.append(f"{path}: must not include hlwq/{other}.hpp")

for complaint in complaints:
    print(complaint, file=sys.stderr)
sys.exit(1 if complaints else 0)
