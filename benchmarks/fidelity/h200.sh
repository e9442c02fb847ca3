#!/usr/bin/env bash
# The whole ablation table on one H200, or any GPU with enough memory:
#
#     bash benchmarks/fidelity/h200.sh DATA_FOLDER [OUT] [options of ablations.py]
#
# It needs this repository and its data folder. Where the package or torch is missing, both are installed into
# .venv; PYTHON names another Python. Called again, it goes on where it stopped.
set -euo pipefail

data=${1:?"usage: bash benchmarks/fidelity/h200.sh DATA_FOLDER [OUT] [options of ablations.py]"}
out=${2:-runs/ablations}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}

file=$data/rumoureval2017/train.jsonl
[[ -f $file ]] || file=$data/train.jsonl
[[ -f $file ]] || { echo "h200.sh: $data holds neither rumoureval2017/train.jsonl nor train.jsonl" >&2; exit 2; }

if ! "$python" -c "import accelerate, mesa_meanfield, mesa_meanfield_models, peft, torch" 2>/dev/null; then
    [[ -x $root/.venv/bin/python ]] || "$python" -m venv "$root/.venv"
    python=$root/.venv/bin/python
    "$python" -m pip install --disable-pip-version-check --constraint "$root/constraints.txt" --editable "$root[local]"
fi
"$python" -c "import torch; assert torch.cuda.is_available()" 2>/dev/null ||
    echo "h200.sh: torch sees no GPU; this will take days" >&2
"$python" -m mesa_meanfield.cli fetch
exec "$python" "$root/benchmarks/fidelity/ablations.py" \
    --data "$file" --out "$out" --device-preset h200 --first-lesson --copies 2 "${@:3}"
