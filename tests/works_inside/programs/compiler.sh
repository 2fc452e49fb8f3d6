set -euo pipefail
for i in $(seq 12); do
    echo "int part_$i(void) { return $i; }" >"part_$i.c"
done
{
    echo '#include <pthread.h>'
    echo '#include <stdio.h>'
    for i in $(seq 12); do echo "int part_$i(void);"; done
    echo 'static void *add(void *sum) {'
    for i in $(seq 12); do echo "    *(int *)sum += part_$i();"; done
    echo '    return 0; }'
    echo 'int main(void) { pthread_t t; int sum = 0; pthread_create(&t, 0, add, &sum); pthread_join(t, 0); printf("%d\n", sum); }'
} >main.c
printf 'objects := $(patsubst %%.c,%%.o,$(wildcard *.c))\nall: $(objects)\n\t$(CC) -pthread -o all $(objects)\n' >Makefile
make -j4 CFLAGS=-O2 >/dev/null
[[ $(./all) == 78 ]]
