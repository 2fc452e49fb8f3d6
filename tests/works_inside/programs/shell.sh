# Pipelines, substitutions, jobs, traps, named pipes.
set -euo pipefail
[[ $(seq 1000 | sort -rn | head -n 1) == 1000 ]]
[[ $(cat <(echo a) <(echo b) | paste -sd+) == a+b ]]
mkfifo pipe
(echo through >pipe) &
[[ $(cat pipe) == through ]]
wait
sleep 0.1 &
wait $!
(exit 3) || [[ $? == 3 ]]
trap 'echo caught' USR1
kill -USR1 $$
coproc bc_like { while read -r line; do echo $((line)); done; }
echo "6*7" >&"${bc_like[1]}"
read -r answer <&"${bc_like[0]}"
[[ $answer == 42 ]]
exec {lock}>lock
flock "$lock"
ulimit -c 0
echo again >/dev/stdout
echo again >>/proc/self/fd/1
echo again | tee /dev/stderr >/dev/null
[[ -z $(cat /dev/stdin) ]]
printf '%s\n' "${BASH_VERSION%%.*}" >/dev/null
