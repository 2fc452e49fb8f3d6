set -euo pipefail
python3 -m venv --without-pip env
[[ $(env/bin/python -c 'import sys; print(sys.prefix)') == "$PWD/env" ]]
mkdir -p package
echo 'answer = 42' >package/__init__.py
[[ $(env/bin/python -c 'import package; print(package.answer)') == 42 ]]
[[ -d package/__pycache__ ]]
