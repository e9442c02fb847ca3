"""What accelerate's trackers are told, and what a training says about the code and the machine."""

from __future__ import annotations

import importlib.util
import json
import subprocess

import pytest

pytest.importorskip("torch")

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from ibtune_worlds import crowd, folder_of, items, model, terse
from tiny_models import one_thread, tokenizer

from mesa_meanfield.cli import common, main
from mesa_meanfield.ibtune.config import Lora, Optimisation, Settings
from mesa_meanfield.ibtune.tune import tune

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("_single")]
HAS_TENSORBOARD = importlib.util.find_spec("tensorboard") is not None


@pytest.fixture(scope="module", autouse=True)
def _single():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("world"), cascades=3)


@pytest.fixture
def _anew():
    """Accelerate keeps the precision of the first accelerator of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def command(capsys, world, out, *options):
    usual = ["--data", world / "data.jsonl", "--backend", f"hf:{world / 'model'}", "--prompts", world / "words"]
    usual += ["--out", out, "--steps", 2, "--batch", 2, "--rank", 2, "--learning-rate", 0.01, "--every", 1]
    status = main(["tune", *map(str, [*usual, "--held-out", "e1", "--roll-outs", 1, *options])])
    output = capsys.readouterr()
    return status, output.out, output.err


class Notebook(GeneralTracker):
    """A tracker of one's own."""

    name = "notebook"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self):
        super().__init__()
        self.lines = []

    @property
    def tracker(self):
        return self.lines

    def store_init_configuration(self, values):
        pass

    def log(self, values, step=None, **_):
        self.lines.append((step, values))


def test_a_tracker_of_ones_own_hears_every_step_and_every_look(tmp_path):
    notebook, words = Notebook(), terse(tmp_path / "words")
    settings = Settings(
        lora=Lora(rank=2), optimisation=Optimisation(batch=2, steps=3), every=3, patience=None, checkpoint_minutes=9
    )
    accelerator = Accelerator(cpu=True, log_with=notebook)
    train, held = items([crowd(12)], prompts=words), items([crowd(9, "c3", "e3")], prompts=words)
    tune(model(), tokenizer("llama"), train, held, settings, tmp_path / "out", accelerator=accelerator,
         roll_outs=lambda *_, **__: [0.5])  # fmt: skip
    steps = [(step, sorted(values)) for step, values in notebook.lines]
    names = ("distortion", "gradient", "lr", "nll", "seconds", "step", "tokens")
    trained = [f"train/{name}" for name in names]
    looked = sorted(f"held_out/{n}" for n in ("distortion", "kl", "nll", "objective", "seconds", "step", "tokens"))
    assert steps == [(0, looked), (1, trained), (2, trained), (3, trained), (3, looked)]
    assert notebook.lines[-1][1]["held_out/kl"] == 0.5
    rows = [json.loads(line) for line in (tmp_path / "out" / "curves.jsonl").read_text().splitlines()]
    assert [values.get("train/nll") for _, values in notebook.lines] == [
        row["nll"] if row["split"] == "train" else None for row in rows
    ]


@pytest.mark.skipif(not HAS_TENSORBOARD, reason="needs tensorboard")
def test_tensorboard_gets_the_curves_beside_them(capsys, world, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    status, _, err = command(capsys, world, tmp_path / "run", "--log-with", "tensorboard")
    assert status == 0, err
    events = EventAccumulator(str(tmp_path / "run" / "logs" / "mesa-meanfield")).Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "curves.jsonl").read_text().splitlines()]
    for tag, split, name in (("train/nll", "train", "nll"), ("held_out/kl", "held out", "kl")):
        expected = [(row["step"], pytest.approx(row[name], abs=1e-5)) for row in rows if row["split"] == split]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("aim", "--log-with aim: it is not installed: pip install aim"),
        ("comet_ml", "pip install comet-ml"),
        ("abacus", "--log-with abacus: there is no such tracker; there are aim, "),
    ],
)
def test_a_tracker_that_is_not_there_is_one_line(capsys, world, tmp_path, name, said):
    assert importlib.util.find_spec(name) is None
    status, stdout, err = command(capsys, world, tmp_path / "run", "--log-with", name)
    assert (status, stdout) == (2, "")
    (told,) = [line for line in err.splitlines() if line.startswith("mesa-meanfield tune")]
    assert said in told
    assert list(tmp_path.iterdir()) == []


EXACT = 4.079909
"""NLL per action of the untrained tiny model on the held-out event, in fp32."""

# --- Precision --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize(
    ("options", "dtype", "precision"),
    [
        ([], "float32", "no"),
        (["--precision", "bf16"], "float32", "bf16"),
        (["--dtype", "bfloat16"], "bfloat16", "no"),
    ],
)
def test_precision_and_dtype_are_as_asked_and_told(capsys, world, tmp_path, options, dtype, precision):
    status, stdout, err = command(capsys, world, tmp_path / "run", *options, "--json")
    assert status == 0, err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["runs_on"] == {"processes": 1, "device": "cpu", "dtype": dtype, "precision": precision}
    nll = json.loads(stdout)["stages"][0]["before"]["nll"]
    assert nll == pytest.approx(EXACT, rel=0.05)
    assert (abs(nll - EXACT) < 1e-4) == (not options)  # else it was not computed as asked


@pytest.mark.usefixtures("_anew")
def test_a_precision_that_the_device_lacks_is_one_line(capsys, world, tmp_path):
    status, _, err = command(capsys, world, tmp_path / "run", "--precision", "fp16")
    assert status == 2
    assert "does not train in mixed precision fp16 on cpu; take bf16 or no" in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_anew")
def test_accelerates_own_precision_stands_where_none_is_asked_for(capsys, world, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    status, _, err = command(capsys, world, tmp_path / "run")
    assert status == 0, err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["runs_on"]["precision"] == "bf16"


# --- The code ---------------------------------------------------------------------------------------


def test_a_run_tells_the_versions_the_data_and_the_code(capsys, world, tmp_path):
    status, _, err = command(capsys, world, tmp_path / "run")
    assert status == 0, err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"torch", "transformers", "peft", "accelerate", "mesa"} <= config["versions"].keys()
    assert list(config["data_sha256"]) == ["data.jsonl"]
    assert "revision" in config


def test_the_revision_is_that_of_a_checkout_and_of_nothing_else(tmp_path):
    def git(*arguments):
        own = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *own, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    file = tmp_path / "code.py"
    file.write_text("1\n")
    assert common._revision(tmp_path) is None
    git("init")
    assert common._revision(tmp_path) is None  # no commit yet
    git("add", ".")
    git("commit", "-m", "One")
    git("tag", "-a", "v1", "-m", "One")
    assert common._revision(tmp_path) == git("rev-parse", "HEAD")
    file.write_text("2\n")
    assert common._revision(tmp_path) == git("rev-parse", "HEAD") + "-dirty"
    (tmp_path / "site-packages").mkdir()
    assert common._revision(tmp_path / "site-packages") is None
