#!/usr/bin/env bash
# Speed of qwen_moe_chat beside ik_llama.cpp, both on this machine in one run: all models of one number of bits take
# turns, round after round, and the memory is measured between the rounds. See compare_ik.md for how to build the peer,
# what is equal and what is not.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'EOF'
usage: bench/compare_ik.sh PEER WORK [RUN]

  PEER   folder of llama-bench, llama-batched-bench and llama-quantize
  WORK   folder for the models (2 to 3 GB each, made when they are missing) and the results
  RUN    name of the results (default: the time); a run of that name is continued where it stopped

Prints markdown tables. From the environment:

  OURS          folder of qwen_moe_chat and hlwq (default: build/release)
  BITS          groups to compare, "5 4" by default; only the models of one group take turns
  MODELS_5, MODELS_4   their models: hlwq-q5 as published, hlwq-q5-head with the head quantized as well,
                a type of the peer with +rtr for run-time repacking and huge pages
  POINTS        of "short depth batch": pp512 and tg64; tg64 behind DEPTH tokens; SEQUENCES sequences at once
  ROUNDS=3      how often each model has its turn; 0: only makes the models
  REPS=2  THREADS="1 2" (the last alone for depth and batch)  DEPTH=8192  SEQUENCES=4
  TRIES=3       how often a measurement is tried while others take more than LIMIT=3 % of the processors; the least
                disturbed one counts
  WRAP          words in front of every measurement, such as a program that keeps others quiet
  OURS_VERSION, PEER_VERSION   commits of the programs, where they are not those of this folder and of PEER
  PYTHON        python3 with numpy, which new models of the peer need
  FILL=1        the tables are written into compare_ik.md as well
EOF
}
die() { echo "compare_ik: $*" >&2; exit 1; }
remark() { echo "compare_ik: $*" >&2; }

# A command; beside its output, the percentage of the processors that others took meanwhile (other guests of the host
# included, where it says so).
watch() { # file, command...
    local file=$1 before after times
    shift
    ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat; }
    before=$(ticks)
    local TIMEFORMAT='%U %S %R'
    times=$({ time "$@" >"$file.part" 2>"$file.log"; } 2>&1) || return 1
    after=$(ticks)
    awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v cpus="$(nproc)" \
        '{ printf "%.1f\n", 100 * (ticks / hz - $1 - $2) / ($3 * cpus) }' <<<"$times" >"$file.others.part"
}
if [ "${1:-}" = --watch ]; then
    shift
    watch "$@"
    exit
fi

[ $# -ge 2 ] || { usage >&2; exit 2; }
peer=$(cd "$1" && pwd)
mkdir -p "$2"
work=$(cd "$2" && pwd)
results=$work/results/${3:-$(date +%Y%m%d-%H%M%S)}
ours=$(cd "${OURS:-$here/../build/release}" && pwd)
declare -A models=(
    [5]=${MODELS_5:-hlwq-q5 hlwq-q5-head q5_K+rtr q5_0+rtr iq5_k iq5_ks}
    [4]=${MODELS_4:-hlwq-q4 hlwq-q4-head q4_K+rtr iq4_k}
)
points=${POINTS:-short depth batch}
tries=${TRIES:-3} limit=${LIMIT:-3}
rounds=${ROUNDS:-3} reps=${REPS:-2} depth=${DEPTH:-8192} sequences=${SEQUENCES:-4}
read -ra threads <<<"${THREADS:-1 2}"
read -ra wrap <<<"${WRAP:-}"
python=${PYTHON:-python3}
layers=4 vocabulary=32768
all_threads=${threads[-1]}
for program in "$ours"/{qwen_moe_chat,hlwq} "$peer"/{llama-bench,llama-batched-bench,llama-quantize}; do
    [ -x "$program" ] || die "$program: expected a program"
done

# ---- models

bf16() { # the weights that the models with a quantized head are made from; only while they are
    [ -e "$work/bf16/config.json" ] ||
        "$ours/qwen_moe_chat" synth --shape 35b-a3b --layers $layers --vocab $vocabulary --bf16 --force "$work/bf16" >&2
}

make_ours() { # name
    local bits=${1#hlwq-q} out=$work/$1
    [ -e "$out/config.json" ] && return
    remark "making $1"
    case $bits in
    *-head)
        bits=${bits%-head}
        bf16
        printf 'lm_head\\. = %s\nin_proj_[ab]\\. = %s\n' "$bits" "$bits" >"$work/$1.recipe"
        "$ours/hlwq" quantize --bits "$bits" --recipe "$work/$1.recipe" --encoder nearest --force "$work/bf16" "$out" >&2
        ;;
    *)
        "$ours/qwen_moe_chat" synth --shape 35b-a3b --layers $layers --vocab $vocabulary --bits "$bits" --force "$out" >&2
        ;;
    esac
}

make_theirs() { # type
    local out=$work/$1.gguf template=$work/template
    [ -e "$out" ] && return
    remark "making $1"
    "$python" "$here/compare_ik.py" template --layers $layers --vocab $vocabulary "$template.gguf"
    local type=${1^^}
    case $1 in q?_K) type=${type}_S ;; esac # whose pure form it is
    "$peer/llama-quantize" --pure "$template.gguf" "$template-$1.gguf" "$type" "$all_threads" >"$work/$1.log" 2>&1 ||
        die "llama-quantize failed: $work/$1.log"
    "$python" "$here/compare_ik.py" widen --layers $layers --vocab $vocabulary "$template-$1.gguf" "$out.part"
    mv "$out.part" "$out"
    rm "$template.gguf" "$template-$1.gguf"
}

path_of() { # model
    case $1 in hlwq-*) echo "$work/$1" ;; *) echo "$work/${1%+*}.gguf" ;; esac
}

# ---- measurements

options_of() { # model: those of the peer, the best of each type
    case $1 in *+rtr) echo "-rtr 1 -thp 1" ;; esac
}
batched_options_of() { # the same in the words of llama-batched-bench
    case $1 in *+rtr) echo "-rtr -thp" ;; esac
}

measure() { # file, command...: the least disturbed of up to $tries
    local file=$1 others least=
    shift
    [ -s "$file" ] && return
    for _ in $(seq "$tries"); do
        if ! "${wrap[@]}" "$here/compare_ik.sh" --watch "$file" "$@"; then
            tail -3 "$file.log" >&2
            die "failed: $*"
        fi
        if [ ! -s "$file.part" ]; then mv "$file.log" "$file.part"; fi # where llama-batched-bench puts its table
        others=$(<"$file.others.part")
        remark "$(basename "$file"): others took $others %"
        if [ -z "$least" ] || awk "BEGIN { exit !($others < $least) }"; then
            least=$others
            mv "$file.others.part" "$file.others"
            mv "$file.part" "$file.best"
        fi
        if awk "BEGIN { exit !($least <= $limit) }"; then break; fi
    done
    rm -f "$file.log" "$file.part" "$file.others.part"
    mv "$file.best" "$file"
}

ours_has_sequences=0
if "$ours/qwen_moe_chat" bench --help | grep -q -e --sequences; then ours_has_sequences=1; fi

measure_ours() { # model, point, threads, file
    local bench=("$ours/qwen_moe_chat" bench --model "$(path_of "$1")" --threads "$3" -r "$reps" --json)
    case $2 in
    short) measure "$4" "${bench[@]}" -p 512 -n 64 ;;
    depth) measure "$4" "${bench[@]}" -p 0 -n 64 -d "$depth" ;;
    batch)
        measure "$4" "${bench[@]}" -p 400 -n 0
        if [ $ours_has_sequences = 1 ]; then
            measure "${4}s" "${bench[@]}" --sequences "$sequences" -p 400 -n 48
        fi
        ;;
    esac
}

measure_theirs() {
    local file options
    file=$(path_of "$1")
    read -ra options <<<"$(options_of "$1")"
    local bench=("$peer/llama-bench" -m "$file" -t "$3" "${options[@]}" -o json)
    read -ra options <<<"$(batched_options_of "$1")"
    local batched=("$peer/llama-batched-bench" -m "$file" -t "$3" -c 4096 "${options[@]}")
    case $2 in
    short) measure "$4" "${bench[@]}" -p 512 -n 64 -r "$reps" ;;
    depth) measure "$4" "${bench[@]}" -p 0 -n 0 -gp "$depth,64" -r 1 ;;
    batch)
        # Prompts of their own for each, then answers behind a short prompt that they share.
        measure "$4" "${batched[@]}" -npp 400 -ntg 1 -npl "1,$sequences"
        measure "${4}s" "${batched[@]}" -npp 16 -ntg 48 -npl "$sequences" -pps
        ;;
    esac
}

bandwidth() { # GB/s at each number of threads
    if [ ! -x "$work/bandwidth" ]; then
        "${CXX:-c++}" -std=c++20 -O3 -march=native -pthread -I "$here/../include" -I "$here" -x c++ -o "$work/bandwidth" - <<'EOF'
#include "bandwidth.hpp"
#include "hlwq/thread_pool.hpp"
#include <cstdio>
#include <cstdlib>
int main(int, char** argv) {
    const std::vector<std::byte> memory(std::size_t{1} << 30, std::byte{1});
    for (char** threads = argv + 1; *threads; ++threads) {
        hlwq::thread_pool pool(static_cast<unsigned>(std::atoi(*threads)));
        std::printf("%s %.2f\n", *threads, bench::read_bandwidth(memory, pool, 1.0) / 1e9);
    }
}
EOF
    fi
    local file=$results/bandwidth@$1
    measure "$file" "$work/bandwidth" "${threads[@]}"
    cat "$results"/bandwidth@*[0-9] >"$results/bandwidth"
}

describe_machine() {
    local commit
    field() { lscpu | sed -n "s/^$1: *//p" | head -1; }
    commit=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo unknown)
    git -C "$here" diff --quiet HEAD -- 2>/dev/null || commit="$commit and changes"
    echo "$(date -u +%Y-%m-%d), $(field 'Model name') (family $(field 'CPU family'), model $(field Model)), $(nproc) CPUs," \
        "L2 $(field 'L2 cache'), L3 $(field 'L3 cache'), $(awk '/MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB," \
        "Linux $(uname -r | cut -d- -f1), $(field Flags | grep -oE '\b(avx2|avx512f|avx512_vnni|avx512vbmi|avx_vnni|avx512_bf16|amx_int8)\b' | tr '\n' ' ')"
    echo
    echo "hlwq ${OURS_VERSION:-$commit}; ik_llama.cpp ${PEER_VERSION:-$(git -C "$peer" rev-parse --short HEAD 2>/dev/null || echo unknown)};" \
        "$("${CXX:-c++}" --version | head -1). $rounds rounds, $reps repetitions in each."
}

# ---- the run

mkdir -p "$results"
describe_machine >"$results/machine.md"
touch "$results/contenders"
for bits in ${BITS:-5 4}; do
    for model in ${models[$bits]}; do
        case $model in
        hlwq-*)
            make_ours "$model"
            "$ours/hlwq" info "$(path_of "$model")" --json >"$results/$model.info"
            ;;
        *) make_theirs "${model%+*}" ;;
        esac
        printf '%s\t%s\t%s\n' "$bits" "$model" "$(path_of "$model")" >>"$results/contenders"
    done
done

rm -rf "$work/bf16"
if [ "$rounds" = 0 ]; then exit; fi
cd "$work" # programs of the peer leave logs where they run

for bits in ${BITS:-5 4}; do
    for round in $(seq "$rounds"); do
        bandwidth "$bits-$round"
        for point in $points; do
            counts=("$all_threads")
            if [ "$point" = short ]; then counts=("${threads[@]}"); fi
            for count in "${counts[@]}"; do
                for model in ${models[$bits]}; do
                    find -L "$(path_of "$model")" -type f -exec cat {} + >/dev/null # into memory
                    file=$results/$model@$point@$count@$round
                    case $model in
                    hlwq-*) measure_ours "$model" "$point" "$count" "$file" ;;
                    *) measure_theirs "$model" "$point" "$count" "$file" ;;
                    esac
                done
            done
        done
    done
done

"$python" "$here/compare_ik.py" table "$results"
if [ "${FILL:-0}" = 1 ]; then "$python" "$here/compare_ik.py" fill "$results" "$here/compare_ik.md"; fi
