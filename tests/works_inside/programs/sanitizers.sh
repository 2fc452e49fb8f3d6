# The leak checker stops its own process as a debugger does, and address randomisation is switched off as builds do.
set -euo pipefail
echo 'int main(int n, char **v) { int a[4] = {0}; return a[n - 1]; }' >main.c
gcc -fsanitize=address,undefined -o main main.c
./main
setarch --addr-no-randomize ./main
