#!/usr/bin/env bash
# What a GPU makes of it, in pieces that each end within nine minutes. A piece that is done left its file in $OUT and is skipped, so the same
# command goes on where time ran out. Only torch, numpy and this checkout are needed (for `train` also tomli_w).
#
#   OUT=folder bash benchmarks/gpu.sh                   all measurements
#   OUT=folder bash benchmarks/gpu.sh train-32 sample-32
#   OUT=folder PHOTOS=photos.npz bash benchmarks/gpu.sh train photo "$PHOTOS"          nine minutes of a recipe's training, or the next nine
#   OUT=folder CIFAR10=cifar10 bash benchmarks/gpu.sh train cifar10-three "$CIFAR10"
#   bash benchmarks/gpu.sh --smoke                      tiny sizes, on the CPU too
#
# A training lies in $OUT/RECIPE.tar.part-*, in parts of at most 15 MB, and is taken up from there.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
SECONDS_EACH=${SECONDS_EACH:-530}
export PYTHONPATH="src:benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
PIECES=(train-32 sample-32 train-128 sample-128 train-256 sample-256 operators)

smoke=()
if [ "${1:-}" = --smoke ]; then
  smoke=(--smoke)
  shift
  OUT=${OUT:-$(mktemp -d)}
fi
: "${OUT:?say where the results go: OUT=folder bash benchmarks/gpu.sh}"
mkdir -p "$OUT"

if [ "${1:-}" = train ]; then
  recipe=${2:?train RECIPE DATA} data=${3:-}
  if [ -z "$data" ] || [ ! -e "$data" ]; then
    echo "train $recipe: its data are not there (${data:-no path given}): skipped"
    exit 0
  fi
  work=$(mktemp -d)
  if compgen -G "$OUT/$recipe.tar.part-*" >/dev/null; then cat "$OUT/$recipe.tar.part-"* | tar -x -C "$work"; fi
  "$PYTHON" benchmarks/gpu_train.py "$recipe" --data "$data" --run "$work/$recipe" --seconds "$SECONDS_EACH" "${@:4}"
  # Under other names until all of them are written: what is cut off in between leaves the old parts, which are whole.
  rm -f "$OUT/$recipe.tar.new-"*
  tar -c -C "$work" --exclude=samples "$recipe" | split -b 15M - "$OUT/$recipe.tar.new-"
  rm -f "$OUT/$recipe.tar.part-"*
  for part in "$OUT/$recipe.tar.new-"*; do mv "$part" "$OUT/$recipe.tar.part-${part##*.tar.new-}"; done
  rm -rf "$work"
  exit 0
fi

[ $# -gt 0 ] || set -- "${PIECES[@]}"
for piece in "$@"; do
  echo "$piece"
  timeout -k 5 "$((SECONDS_EACH + 10))" "$PYTHON" benchmarks/gpu.py "$piece" --out "$OUT" "${smoke[@]}" || echo "$piece: not done (status $?)"
done
