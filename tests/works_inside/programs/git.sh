set -euo pipefail
git init -q origin
git -C origin config user.email job@localhost
git -C origin config user.name job
for i in 1 2 3; do
    echo "$i" >"origin/$i"
    git -C origin add .
    git -C origin commit -q -m "commit $i"
done
git clone -q origin plain
git clone -q "file://$PWD/origin" packed
[[ $(git -C packed log --oneline | wc -l) == 3 ]]
git -C packed gc -q
git -C packed fsck --no-progress
git -C packed worktree add -q ../other HEAD~1
[[ ! -e other/3 ]]
