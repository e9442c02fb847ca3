"""Over the recorded cascades of the development machine, which the package does not carry."""

import json
from pathlib import Path

import pytest

from mesa_meanfield.cascades.dimensions import BEHAVIOUR, dimension_of, labels_of_dimension
from mesa_meanfield.cascades.jsonl import read_cascades, to_json
from mesa_meanfield.data import cut

SHARED = Path(__file__).parents[2] / "shared" / "data"
FILES = {
    "rumoureval2017/train.jsonl": (272, 3966),
    "rumoureval2017/dev.jsonl": (25, 256),
    "ced-weibo/train.jsonl": (140, 37429),
    "ced-weibo/test.jsonl": (35, 8670),
}


@pytest.mark.parametrize("name", FILES)
def test_recorded_cascades_are_read_without_loss_and_cut_without_loss(name):
    file = SHARED / name
    if not file.is_file():
        pytest.skip("optional: shared data not here")
    cascades = read_cascades(file)
    assert (len(cascades), sum(len(one.actions) for one in cascades)) == FILES[name]
    for one, line in zip(cascades, file.read_text("utf-8").splitlines(), strict=True):
        assert to_json(one) == json.loads(line)
        parts = cut(one)
        assert tuple(a for t in (*parts.warm_up, *parts.roll_out) for a in t) == one.actions
    dimension = "stance" if name.startswith("rumoureval") else BEHAVIOUR
    assert {dimension_of(one) for one in cascades if one.actions} == {dimension}
    assert len(labels_of_dimension(dimension, cascades)) == (4 if dimension == "stance" else 2)
