set -euo pipefail
[[ $(echo "{\"a\": [1, {\"b\": 2}]}" | jq -c ".a[1].b") == 2 ]]
