#!/bin/bash
# Where a job is: stockade run --script examples/hello.sh --arg world
set -euo pipefail

echo "hello, ${1:-nobody}"
echo "I am $(id -un) ($(id -u)) in $PWD, and this is all that I see:"
ls /
echo "processes: $(ls -d /proc/[0-9]* | wc -l)"
echo "what I write here is gone when I am" > note.txt
cat note.txt
