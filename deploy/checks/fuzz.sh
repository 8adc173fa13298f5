#!/usr/bin/env bash
# fuzz targets: compile them all, build those of the formats instrumented, run each on some thousand inputs
# The formats by default; FUZZ_FEATURES=programs adds the targets that link a whole program, and
# FUZZ_TARGETS="names filter" picks some. A short run makes the same inputs everywhere, by seed and number,
# so that it says whether a change broke something. FUZZ_SECONDS asks for a long run by chance
# (docs/testing.md), whose corpus stays.
set -euo pipefail
cd "$(dirname "$0")/../../fuzz"
target=$(rustc -vV | sed -n 's/^host: //p')
# The targets that link a program are not built here, but they are to compile.
CARGO_TARGET_DIR=../target cargo clippy --quiet --bins --features programs -- -D warnings
# What cargo-fuzz would set. The sanitizer is not stable yet, hence the bootstrap switch; naming the
# target keeps these flags away from build scripts.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
export CARGO_TARGET_DIR=../target/fuzz
# Not --locked: this lock file follows the manifests of the crates, which change without it.
cargo build --quiet --target "$target" --features "${FUZZ_FEATURES:-}"

# one NAME: what it finds is left under target/fuzz.
one() {
    local name=$1 corpus=$CARGO_TARGET_DIR/corpus/$1 seeds=seeds/$1 log=$CARGO_TARGET_DIR/$1.log
    local bounds=(-max_total_time="${FUZZ_SECONDS:-}")
    if [[ -z ${FUZZ_SECONDS:-} ]]; then
        bounds=(-seed=1 -runs=5000)
        corpus=$CARGO_TARGET_DIR/short/$name
        rm -rf "$corpus"
    fi
    mkdir -p "$corpus"
    [[ -d $seeds ]] || seeds=
    if ! "$programs/$name" "${bounds[@]}" -max_len=65536 -rss_limit_mb=2048 \
        -artifact_prefix="$CARGO_TARGET_DIR/$name-" "$corpus" $seeds >"$log" 2>&1; then
        echo "$name: FAILED" >&2
        tail -n 40 "$log" >&2
        return 1
    fi
    echo "$name: $(tail -n1 "$log")"
}
export programs=$CARGO_TARGET_DIR/$target/debug
export -f one
names=()
for source in fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    [[ -x $programs/$name ]] || continue
    [[ -z ${FUZZ_TARGETS:-} || " $FUZZ_TARGETS " == *" $name "* ]] && names+=("$name")
done
# As many at a time as there are processors; one that fails lets the others finish.
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}'
