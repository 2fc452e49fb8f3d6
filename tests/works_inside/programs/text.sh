set -euo pipefail
[[ $(seq 100 | awk '{ s += $1 } END { print s }') == 5050 ]]
[[ $(echo aXb | sed -E 's/X/-/') == a-b ]]
[[ $(printf 'a:b\nc:d\n' | cut -d: -f2 | tr 'bd' 'BD' | paste -sd' ') == "B D" ]]
printf 'one\ntwo\n' >f
sed -i s/two/three/ f
grep -q three f
diff <(cat f) <(printf 'one\nthree\n')
