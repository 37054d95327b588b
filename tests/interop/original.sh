#!/bin/bash
# Files of the original's Python package read by hlwq, and files of hlwq read by the original's loader.
#
#     original.sh HLWQ_PROGRAM        (network for pip; torch from the system or from pip)
#
# Ends with 77 where the package or torch cannot be had.
#
# Result with polarquant 0.6.0, torch 1.13.0, safetensors 0.8.0, on tests/data/dense_tiny and moe_tiny: all 32 runs agree
# (2 to 8 bits, packed and not, policy `package`, tables legacy-a and converged); the largest difference is 3.9e-7 of a
# row's norm for files of the original, 5.9e-7 for files of hlwq, both float32 rounding. `--policy package` chooses the
# matrices and widths that the original chooses.
set -euo pipefail

hlwq=$(realpath "${1:?usage: original.sh HLWQ_PROGRAM}")
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

base=python3
# Debian's python3-torch belongs to Debian's Python, whichever other one comes first in the path.
/usr/bin/python3 -c 'import torch, scipy' 2> /dev/null && base=/usr/bin/python3
"$base" -m venv --system-site-packages "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install -q --no-deps polarquant==0.6.0 safetensors || { echo "skipped: no polarquant 0.6.0"; exit 77; }
"$python" -c 'import torch, scipy' 2> /dev/null ||
    "$python" -m pip install -q torch numpy scipy ||
    { echo "skipped: no torch"; exit 77; }
"$python" -c 'import torch, polarengine_vllm.loader
from importlib.metadata import version
print("polarquant", version("polarquant"), "safetensors", version("safetensors"), "torch", torch.__version__)'

original() { "$python" -W ignore "$here/original.py" "$@"; }

echo "written by the original, read by hlwq"
for model in dense_tiny moe_tiny; do
    for how in "" --no-pack "--bits 2" "--bits 4" "--bits 5" "--bits 7" "--bits 8"; do
        rm -rf "$work/theirs" "$work/weights"
        original quantize "$data/$model" "$work/theirs" $how 2> /dev/null
        "$hlwq" dequantize "$work/theirs" "$work/weights" --dtype f32 > /dev/null 2> "$work/log" ||
            { cat "$work/log"; exit 1; }
        printf '  %-10s %-9s ' "$model" "${how:-default}"
        original compare "$work/theirs" "$work/weights"
    done
done

echo "written by hlwq, read by the original"
for model in dense_tiny moe_tiny; do
    for how in "" "--policy package" "--bits 2" "--bits 3" "--bits 4" "--bits 6" "--bits 7" "--bits 8" \
        "--bits 5 --codebook converged"; do
        rm -rf "$work/ours" "$work/weights"
        "$hlwq" quantize "$data/$model" "$work/ours" --format polar-v5 $how > /dev/null 2> "$work/log" &&
            "$hlwq" dequantize "$work/ours" "$work/weights" --dtype f32 > /dev/null 2> "$work/log" ||
            { cat "$work/log"; exit 1; }
        printf '  %-10s %-29s ' "$model" "${how:-default}"
        original compare "$work/ours" "$work/weights"
    done
done
