#!/usr/bin/env bash
# fuzz targets: compile them all, build those of the formats instrumented, run each on some thousand inputs
# The formats by default; FUZZ_FEATURES=programs adds the targets that link a whole program, FUZZ_TARGETS="names filter"
# picks some, and FUZZ_TARGETS=none builds all of these and runs none. A short run makes the same inputs everywhere, by seed
# and number, so that it says whether a change broke something. FUZZ_SECONDS asks for a long run by chance
# (docs/testing.md), whose corpus stays.
set -euo pipefail
cd "$(dirname "$0")/../../fuzz"

fail() {
    echo "fuzz.sh: $*" >&2
    exit 1
}

# The targets to build. What is asked for and is not there is an error: a run of nothing finds nothing.
names=() known=" "
while read -r name feature; do
    known+="$name "
    grep -q "^| .*\`$name\`.*|" ../docs/testing.md || fail "$name is not in the table of docs/testing.md"
    asked=false
    [[ " ${FUZZ_TARGETS:-} " == *" $name "* ]] && asked=true
    if [[ -z $feature || " ${FUZZ_FEATURES:-} " == *[\ ,]"$feature"[\ ,]* ]]; then
        if $asked || [[ -z ${FUZZ_TARGETS:-} || $FUZZ_TARGETS == none ]]; then names+=("$name"); fi
    elif $asked; then
        fail "$name needs FUZZ_FEATURES=$feature"
    fi
done < <(awk -F'"' '
    /^\[/ { if (bin) print name, feature; bin = /^\[\[bin\]\]/; feature = "" }
    /^name = / { name = $2 }
    /^required-features = / { feature = $2 }
    END { if (bin) print name, feature }' Cargo.toml)
for name in ${FUZZ_TARGETS:-}; do
    [[ $known == *" $name "* || $FUZZ_TARGETS == none ]] || fail "there is no target $name; there are:$known"
done
for source in fuzz_targets/*.rs; do
    [[ $known == *" $(basename "$source" .rs) "* ]] || fail "$source is not in fuzz/Cargo.toml"
done
((${#names[@]})) || fail "there is nothing to build"

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
cargo build --quiet --target "$target" --features "${FUZZ_FEATURES:-}" "${names[@]/#/--bin=}"
export programs=$CARGO_TARGET_DIR/$target/debug
for name in "${names[@]}"; do
    [[ -x $programs/$name ]] || fail "$name was not built"
done
[[ ${FUZZ_TARGETS:-} != none ]] || exit 0

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
export -f one
# As many at a time as there are processors; one that fails lets the others finish.
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}'
