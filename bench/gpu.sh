#!/usr/bin/env bash
# Builds for the GPU that is here, tests, sanitizes, measures, inside nine minutes; needs no network.
#
#   bash bench/gpu.sh            # results in bench/results, or in $OUT: gpu.json, gpu.lines, gpu_logs.tgz
#
# Needs on PATH (or in $PYTHON): Python with torch, CuPy, pybind11, pytest-benchmark and this package's
# dependencies; CMake; nvcc with cuBLAS and cuSOLVER, of a toolkit or of the wheels. Prints a short table
# last. Exit status 0 when every step passed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
out=${OUT:-bench/results}
budget=${BUDGET:-530}  # seconds in all
mkdir -p "$out"
logs=$(mktemp -d)
trap 'tar -czf "$out/gpu_logs.tgz" -C "$logs" . && rm -rf "$logs"' EXIT
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" LEAD_FAST_REQUIRE_GPU=1
lines=$out/gpu.lines
rm -f "$lines"
started=$SECONDS
rows=()
failed=0

# step NAME LIMIT COMMAND...: runs it with what is left of the budget, notes how it ended.
step() {
  local name=$1 limit=$2 left=$((budget - (SECONDS - started))) begun=$SECONDS status
  shift 2
  if ((left < 5)); then
    rows+=("$(printf '%-12s %5s s  not run: the time was over' "$name" 0)")
    failed=1
    return 1
  fi
  ((limit > left)) && limit=$left
  printf '\n== %s\n' "$name"
  timeout "$limit" "$@" >"$logs/$name.log" 2>&1
  status=$?
  tail -n "${TAIL:-4}" "$logs/$name.log"
  if ((status == 0)); then
    rows+=("$(printf '%-12s %5s s  passed' "$name" $((SECONDS - begun)))")
  else
    rows+=("$(printf '%-12s %5s s  FAILED, status %s (124: out of time); see %s.log' \
      "$name" $((SECONDS - begun)) "$status" "$name")")
    failed=1
  fi
  return "$status"
}

table() {
  printf '\n== results (%s s in all)\n' $((SECONDS - started))
  printf '%s\n' "${rows[@]}"
  if [[ -s $out/gpu.json ]]; then
    "$python" bench/gpu_table.py "$out/gpu.json"
  elif [[ -s $lines ]]; then
    cat "$lines"  # of benchmarks that were cut off
  fi
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
export LEAD_FAST_CUDA=ON CMAKE_ARGS="${CMAKE_ARGS:-} -DCMAKE_CUDA_ARCHITECTURES=native"
if ! step build 180 "$python" setup.py build_ext --inplace; then
  TAIL=60 tail -n 60 "$logs/build.log"
  table
  exit 1
fi
# Correctness first, everything at once: each file of tests in a process of its own, as one bad kernel
# breaks CUDA for all that follows in its process, and the sanitizer's tools beside them.
printf '\n== tests and sanitizer\n'
jobs=()
background() {
  local name=$1
  shift
  (
    begun=$SECONDS
    # Beside a dozen others: with a thread for each core, all of them would wait for each other.
    OMP_NUM_THREADS=4 OPENBLAS_NUM_THREADS=4 timeout 240 "$@" >"$logs/$name.log" 2>&1
    echo "$? $((SECONDS - begun))" >"$logs/$name.status"
  ) &
  jobs+=("$name")
}
gpu_tests=("$python" -m pytest -q -m gpu -p no:cacheprovider --durations=3)
for file in $(grep -lE 'pytest.mark.gpu|marks=.*gpu' tests/test_*.py); do
  name=$(basename "$file" .py)
  if [[ $name == test_svm_arrays ]]; then  # by far the longest
    background "$name" "${gpu_tests[@]}" "$file" -k 'not score_on_the_gpu'
    background "${name}_score" "${gpu_tests[@]}" "$file" -k score_on_the_gpu
  else
    background "$name" "${gpu_tests[@]}" "$file"
  fi
done
# Here, too, as machines with a GPU tend to have timm and torchvision, which skip it where they are not.
background models "$python" -m pytest -q -p no:cacheprovider tests/test_extract.py -k other_libraries
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck; do
    sizes=all
    [[ $tool == racecheck ]] && sizes=few  # by far the slowest of them
    background "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" bench/sanitize.py $sizes
  done
else
  rows+=('sanitizer    not run: there is no compute-sanitizer on PATH')
fi
wait
for name in "${jobs[@]}"; do
  read -r status seconds <"$logs/$name.status"
  rm "$logs/$name.status"
  if ((status == 5)); then  # no test of a GPU in this file
    continue
  elif ((status == 0)); then
    rows+=("$(printf '%-18s %5s s  passed: %s' "$name" "$seconds" "$(tail -n 1 "$logs/$name.log")")")
  else
    rows+=("$(printf '%-18s %5s s  FAILED, status %s (124: out of time); see %s.log' \
      "$name" "$seconds" "$status" "$name")")
    failed=1
    tail -n "${TAIL:-15}" "$logs/$name.log"
  fi
done
LEAD_FAST_BENCH_LINES=$lines step bench 280 "$python" -m pytest -q bench -m gpu --benchmark-json="$out/gpu.json"
step profile 60 "$python" bench/gpu_profile.py ww ovr cs nleep pactran
table
exit "$failed"
