#!/usr/bin/env bash
# Not yet submitted: see README.md.
#
# Builds every target in OSS-Fuzz's image, and packs its corpus and its dictionary.
set -eu
cd "$SRC/longwire"
# -O: optimized. -a: with debug assertions and checks for overflow, which are properties as well.
cargo fuzz build -O -a
for program in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$program" .rs)
    cp "fuzz/target/x86_64-unknown-linux-gnu/release/$name" "$OUT/"
    zip --junk-paths --quiet "$OUT/${name}_seed_corpus.zip" "fuzz/seeds/$name"/*
    if [ -f "fuzz/dictionaries/$name.dict" ]; then
        cp "fuzz/dictionaries/$name.dict" "$OUT/"
    fi
done
