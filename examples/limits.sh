#!/bin/bash
# What each limit does: examples/limits.sh [STOCKADE]
#
# Runs jobs that go beyond a limit, and shows how each ended. Needs root and python3.
set -uo pipefail

stockade=${1:-stockade}
report=$(mktemp)
trap 'rm -f "$report"' EXIT

show() {
    local title=$1
    shift
    "$stockade" run --report "$report" "$@" >/dev/null 2>&1
    local status=$?
    printf '%-34s exit status %3d  %s\n' "$title" "$status" "$(python3 - "$report" <<'PYTHON'
import json, sys

with open(sys.argv[1]) as file:
    job = json.load(file)
print(job["cause"], f'after {job["usage"]["wall_ms"]} ms, {job["usage"]["memory_peak_bytes"] >> 20} MiB at most')
PYTHON
)"
}

show 'nothing unusual' -- true
show 'its own exit code' -- bash -c 'exit 3'
show 'more memory than it may' --memory 64M -- python3 -c 'x = bytearray(1 << 30)'
show 'longer than it may' --wall-time 1s -- sleep 60
show 'more CPU time than it may' --cpu-time 1s -- bash -c 'while :; do :; done'
show 'half a CPU for one second' --cpus 0.5 --wall-time 1s -- bash -c 'while :; do :; done'
show 'more processes than it may' --pids 8 -- bash -c 'for i in {1..20}; do sleep 1 & done; wait'
show 'more output than is kept' --output-limit 1M -- head -c 10M /dev/zero
show 'more output than is allowed' --output-limit 1M --on-output-limit kill -- head -c 10M /dev/zero
show 'more files than it may' --disk 1M -- dd if=/dev/zero of=big bs=1M count=8
show 'a command that is not there' -- nosuch
