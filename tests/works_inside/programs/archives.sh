set -euo pipefail
mkdir from
for i in $(seq 200); do head -c 3000 /dev/urandom >"from/$i"; done
ln -s 1 from/link
chmod 700 from/2
for how in --gzip --xz --zstd; do
    tar --create $how --file archive from
    mkdir to
    tar --extract --file archive --directory to
    diff -r from to/from
    rm -rf to archive
done
tar --create --file plain from
xz --threads=2 --keep plain
zstd --quiet --threads=2 plain
gzip --keep plain
[[ $(xz --decompress --stdout plain.xz | sha256sum) == $(zstd --decompress --stdout --quiet plain.zst | sha256sum) ]]
