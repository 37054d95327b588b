#!/usr/bin/env bash
# Quantizes the embedded model at 5 and 3 bits, reads it back, compares, measures what it cost, and lets it answer.
#
# usage: HLWQ_TOOL=path/to/hlwq QWEN_TOOL=path/to/qwen_moe_chat examples/demo.sh [REPORT.html]
# The quantized models stay in build/demo. Opens the chat at the end where a terminal is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tool=${HLWQ_TOOL:-$here/../build/release/hlwq}
chat=${QWEN_TOOL:-$here/../build/release/qwen_moe_chat}
tiny=$here/qwen_moe_chat/tiny
model=$tiny/model
report=${1:-report.html}
work=$here/../build/demo
rm -rf "$work"
mkdir -p "$work"
failures=0
checks=0

judge() { # judge TEXT COMMAND...: the verdict of a command that prints what is wrong
    local text=$1
    shift
    checks=$((checks + 1))
    if "$@"; then
        echo "  ok    $text"
    else
        echo "  FAIL  $text"
        failures=$((failures + 1))
    fi
}

# Every tensor of a comparison of BITS: quantized ones differ by no more than that width may cost, kept ones not at all.
within() { # within COMPARISON.json INFO.json LIMIT
    python3 - "$@" <<'EOF'
import json, sys

comparison, info, limit = json.load(open(sys.argv[1])), json.load(open(sys.argv[2])), float(sys.argv[3])
wrong = [f"missing: {name}" for side in ("missing_in_a", "missing_in_b", "different_shapes") for name in comparison[side]]
different = [t for t in comparison["tensors"] if t["max_abs"] != 0]
for t in different:
    if t["relative_mse"] is None or t["relative_mse"] > limit:
        wrong.append(f"relative MSE {t['relative_mse']} of {t['name']}")
matrices = sum(kind["count"] for kind in info["kinds"] if kind["action"] == "quantize")
kept = sum(kind["count"] for kind in info["kinds"] if kind["action"] == "keep")
equal = len(comparison["tensors"]) - len(different)
if equal != kept:
    wrong.append(f"{kept} tensors were kept, {equal} are equal")
print(*("        " + line for line in wrong), sep="\n", end="\n" if wrong else "")
print(f"        {matrices} matrices, worst relative MSE {different[0]['relative_mse']:.2e} (allowed {limit:.2e}); "
      f"{kept} kept tensors, all of them equal" if not wrong else "")
sys.exit(1 if wrong else 0)
EOF
}

# Relative error that a width may have: that of N(0,1) blocks with table A (2.9e-3 and 3.5e-2), which padding and the
# searched encoder only make smaller, and a tenth for matrices that are not Gaussian.
demonstrate() { # demonstrate BITS LIMIT
    local bits=$1 limit=$2 out=$work/q$1
    echo
    echo "== $bits bits"
    "$tool" quantize "$model" "$out" --bits "$bits" 2>/dev/null
    "$tool" info "$out" --json >"$work/info.json"
    "$tool" compare "$model" "$out" --json >"$work/compare.json" 2>/dev/null
    "$tool" dequantize "$out" "$out-back" >/dev/null 2>&1
    "$tool" compare "$model" "$out-back" --json >"$work/back.json" 2>/dev/null
    echo
    judge "the quantized checkpoint against its source" within "$work/compare.json" "$work/info.json" "$limit"
    judge "read back as BF16 against its source" within "$work/back.json" "$work/info.json" "$limit"
    judge "configuration, tokenizer and template carried over" carried_over "$out"
}

carried_over() {
    local file
    for file in config.json generation_config.json tokenizer.json tokenizer_config.json chat_template.jinja; do
        cmp -s "$model/$file" "$1/$file" || {
            echo "        $file differs"
            return 1
        }
    done
}

command -v python3 >/dev/null || {
    echo "demo: python3 is missing; it reads the comparisons (apt-get install python3)" >&2
    exit 1
}
"$tool" --version
echo "source: $(realpath --relative-to="$PWD" "$model")"
"$tool" info "$model" | sed -n '1,4p'
demonstrate 5 3.2e-3
demonstrate 3 3.8e-2

echo
echo "== what it costs, on text that the model was not trained on"
"$chat" report --model "$model" --quantized "$work/q5" --quantized "$work/q3" --ablation 5 --ablation 3 \
    --file "$tiny/heldout.txt" --tokens 3072 --out "$report"
echo
echo "charts: $report"

echo
question="What is 47 + 38?"
echo "== $question"
for form in "$model" "$work/q5" "$work/q3"; do
    printf '  %-6s ' "$(basename "$form")"
    "$chat" --model "$form" --temp 0 -p "$question" 2>/dev/null
done
echo

if ((failures)); then
    echo "demo: $failures of $checks checks failed"
    exit 1
fi
echo "demo: all $checks checks passed: every quantized tensor within the error of its width, every kept tensor bit-identical"

if [[ -t 0 && -t 1 ]]; then
    echo
    echo "The model at 5 bits is listening; /help lists commands, Ctrl-D leaves."
    exec "$chat" --model "$work/q5"
fi
