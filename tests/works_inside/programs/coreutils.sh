set -euo pipefail
mkdir -p a/b
cp -a /etc/services a/
install -m 755 a/services a/b/s
touch -d yesterday a/b/s
ln -s s a/b/link
ln a/services a/hard
[[ $(readlink -f a/b/link) == "$PWD/a/b/s" ]]
[[ $(stat -c %h a/services) == 2 ]]
mv a/services a/b/moved
sha256sum a/b/moved | sha256sum -c --status
dd if=/dev/zero of=zero bs=64K count=16 status=none
truncate -s 4M sparse
split -n 4 zero part.
[[ $(cat part.* | wc -c) == 1048576 ]]
sort --parallel=2 a/hard | uniq -c | sort -n | tail -n 3 | tee top >/dev/null
du -sh . >/dev/null
df . >/dev/null
timeout 5 env true
nice true
nohup true
shred -u zero
find . -type f -print0 | xargs -0 -P 2 -n 5 wc -l >/dev/null
date -u >/dev/null
uname -a >/dev/null
id >/dev/null
nproc >/dev/null
uptime >/dev/null
ps aux >/dev/null
free >/dev/null
rm -rf a
