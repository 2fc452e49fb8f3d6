# A pipeline of 1000 processes, all alive at once.
set -euo pipefail
line="echo through"
for _ in $(seq 999); do line+=" | cat"; done
[[ $(eval "$line") == through ]]
