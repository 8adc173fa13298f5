#!/usr/bin/env bash
# fuzz targets: build instrumented, run each for a few seconds (FUZZ_SECONDS)
# The formats by default; FUZZ_FEATURES=programs adds the targets that link a whole program.
set -euo pipefail
cd "$(dirname "$0")/../../fuzz"
target=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz would set. The sanitizer is not stable yet, hence the bootstrap switch; naming the
# target keeps these flags away from build scripts.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
export CARGO_TARGET_DIR=../target/fuzz
# Not --locked: this lock file follows the manifests of the crates, which change without it.
cargo build --quiet --target "$target" --features "${FUZZ_FEATURES:-}"
for source in fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    [[ -x $CARGO_TARGET_DIR/$target/debug/$name ]] || continue
    corpus=$CARGO_TARGET_DIR/corpus/$name seeds=seeds/$name
    mkdir -p "$corpus"
    [[ -d $seeds ]] || seeds=
    log=$CARGO_TARGET_DIR/$name.log
    if ! "$CARGO_TARGET_DIR/$target/debug/$name" -max_total_time="${FUZZ_SECONDS:-5}" -max_len=65536 -rss_limit_mb=2048 \
        -artifact_prefix="$CARGO_TARGET_DIR/$name-" "$corpus" $seeds >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        exit 1
    fi
    echo "$name: $(tail -n1 "$log")"
done
