"""The adapters that come with the package: found, used where they fit, and told in every record."""

from __future__ import annotations

import argparse
import configparser
import hashlib
import json
import struct
import subprocess
import sys
import warnings
from pathlib import Path, PurePosixPath

import pytest
from worlds import STANCES, cascade

from mesa_meanfield.actions import Choice
from mesa_meanfield.backends.adapted import AdaptedBackend
from mesa_meanfield.backends.scripted import ScriptedBackend
from mesa_meanfield.cascades.dimensions import known_labels
from mesa_meanfield.cascades.jsonl import write_cascades
from mesa_meanfield.cli import main
from mesa_meanfield.cli.adapters import choose
from mesa_meanfield.errors import BackendError, DataError
from mesa_meanfield.ibtune import shipped
from mesa_meanfield.ibtune.calibration import Calibration, read_calibrations, write_calibrations

ROOT = Path(__file__).parents[1]
KINDS = ("policy", "summarizer")


def put(folder, kind, labels=STANCES, temperature=0.5):
    """An adapter's files; nobody here looks into the weights."""
    folder = folder / kind
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(f"weights of the {kind}".encode())
    if kind == "policy":
        write_calibrations(folder, [Calibration("stance", tuple(labels), temperature, 1.0, 0.9, 10)])
    return folder


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    """The folder of the shipped adapters, in the beginning without any."""
    folder = tmp_path / "shipped"
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


@pytest.fixture
def both(there):
    return {kind: put(there, kind) for kind in KINDS}


@pytest.fixture
def data(tmp_path):
    write_cascades(tmp_path / "data.jsonl", [cascade(20)])
    return tmp_path / "data.jsonl"


# --- Which ones there are --------------------------------------------------------------------------


def test_shipped_is_the_folder_of_its_kind_and_anything_else_is_a_path(both):
    assert [shipped.resolve("shipped", kind) for kind in KINDS] == [str(both[kind]) for kind in KINDS]
    assert shipped.resolve("some/folder", "policy") == "some/folder"


@pytest.mark.parametrize("lacking", [None, "adapter_config.json", "adapter_model.safetensors"])
def test_where_none_is_shipped_one_line_says_so(there, lacking):
    if lacking:
        (put(there, "policy") / lacking).unlink()
    with pytest.raises(BackendError, match="no adapter is shipped there") as raised:
        shipped.resolve("shipped", "policy")
    assert "\n" not in str(raised.value)
    assert str(there / "policy") in str(raised.value)
    assert not shipped.fits("policy", "embedded", "stance", STANCES)


@pytest.mark.parametrize(
    ("kind", "spec", "dimension", "labels", "expected"),
    [
        ("policy", "embedded", "stance", STANCES, True),
        ("policy", "local", "stance", STANCES[::-1], True),
        ("policy", "embedded", "stance", STANCES[:3], False),
        ("policy", "embedded", "stance", (*STANCES, "other"), False),
        ("policy", "embedded", "annotated.stance", STANCES, False),
        ("policy", "hf:./embedded", "stance", STANCES, False),
        ("policy", "scripted", "stance", STANCES, False),
        ("policy", "http://localhost:1/v1", "stance", STANCES, False),
        ("summarizer", "embedded", "behaviour", ("comment", "share"), True),
        ("summarizer", "scripted", "stance", STANCES, False),
    ],
)
def test_a_policy_fits_its_model_and_labels_and_a_summarizer_its_model(both, kind, spec, dimension, labels, expected):
    assert shipped.fits(kind, spec, dimension, labels) is expected


def test_a_policy_without_its_calibration_fits_nothing(both):
    (both["policy"] / "calibration.json").unlink()
    assert not shipped.fits("policy", "embedded", "stance", STANCES)


# --- What is chosen --------------------------------------------------------------------------------


def chosen(labels=STANCES, dimension="stance", **given):
    usual = {"backend": "embedded", "summarizer": "llm", "adapter": "auto", "summarizer_adapter": "auto"}
    return choose(
        argparse.Namespace(**usual | {"calibration": None} | given), Choice(tuple(labels), dimension=dimension)
    )


def names(one):
    return [None if adapter is None else adapter.asked for adapter in (one.policy, one.summarizer)]


def test_auto_takes_what_fits(both, tmp_path):
    assert names(chosen()) == ["shipped", "shipped"]
    assert names(chosen(("comment", "share"), "behaviour")) == [None, "shipped"]
    assert names(chosen(backend="hf:some/model")) == [None, None]
    assert names(chosen(summarizer="tally")) == ["shipped", None]
    assert names(chosen(adapter="none")) == [None, "shipped"]
    assert names(chosen(adapter=str(tmp_path), summarizer_adapter="none")) == [str(tmp_path), None]


def test_auto_takes_none_and_says_nothing_where_none_is_shipped():
    one = chosen()
    assert names(one) == [None, None]
    assert str(one) == ""
    assert one.told == {"policy": None, "summarizer": None, "calibration": None}
    with pytest.raises(BackendError, match="no adapter is shipped"):
        chosen(adapter="shipped")
    with pytest.raises(BackendError, match="no adapter is shipped"):
        chosen(summarizer_adapter="shipped")


def test_an_adapter_that_nothing_would_ask_is_told():
    with pytest.raises(DataError, match="--summarizer tally asks no model"):
        chosen(summarizer="tally", summarizer_adapter="somewhere")


def test_the_temperature_is_that_beside_the_policy_or_the_one_that_is_named(both, tmp_path):
    assert chosen().space.temperature == 0.5
    assert chosen(calibration="none").space.temperature == 1.0
    own = put(tmp_path / "own", "policy", temperature=3.0)
    for path in (own, own / "calibration.json"):
        assert chosen(calibration=str(path)).space.temperature == 3.0
        server = chosen(backend="http://localhost:1/v1", calibration=str(path))
        assert (server.space.temperature, str(server)) == (3.0, "policy none, summarizer none; temperature 3.000")
    assert chosen(adapter=str(own)).space.temperature == 3.0
    other = chosen(("comment", "share"), "behaviour", adapter="shipped")
    assert (other.space.temperature, other.calibration) == (1.0, None)


def test_a_calibration_that_is_named_must_be_there_and_fit(both, tmp_path):
    with pytest.raises(DataError, match="nowhere: there is no calibration"):
        chosen(calibration="nowhere")
    with pytest.raises(DataError, match=r"no temperature was fitted there for behaviour \(comment, share\)"):
        chosen(("comment", "share"), "behaviour", calibration=str(both["policy"]))


# --- In a run --------------------------------------------------------------------------------------


class Local(ScriptedBackend):
    """A script in the place of a local model: it can be asked with adapters, and says with which it was."""

    def __init__(self):
        self.folders = {}
        self.asked = []
        super().__init__(self._reply_to, lambda request, answer: self._likes(request, answer), name="scripted model")

    def adapted(self, folder, name=""):
        self.folders[name] = folder
        return AdaptedBackend(self, name)

    def _reply_to(self, request):
        self.asked.append(request.adapter)
        return f"Written with {request.adapter}."

    def _likes(self, request, answer):
        assert request.adapter in (None, "policy")
        return 8.0 if answer == "comment" and request.adapter else 1.0


def run(capsys, monkeypatch, data, out, *arguments, model=None):
    """The result on stdout, and what the run directory says of it; the embedded model is a script."""
    model = model or Local()
    monkeypatch.setattr("mesa_meanfield.cli.run.load_backend", lambda spec, **_: model)
    status = main(["run", "--data", str(data), "--out", str(out), *map(str, arguments)])
    stdout, err = capsys.readouterr()
    assert status == 0, err
    config = json.loads((out / "config.json").read_text())
    rows = [
        [json.loads(line) for line in (out / name).read_text().splitlines()]
        for name in ("decisions.jsonl", "fields.jsonl")
    ]
    return stdout, config, *rows


def test_by_default_each_asks_its_own_shipped_adapter(capsys, monkeypatch, data, tmp_path, both):
    model = Local()
    stdout, config, decisions, fields = run(capsys, monkeypatch, data, tmp_path / "r", model=model)
    assert model.folders == both
    assert {row["text"] for row in fields} == {"Written with summarizer."}
    assert {row["text"] for row in decisions if not row["recorded"]} == {"Written with policy."}
    # "comment" is 8 times as likely, at half the temperature 64 times; the labels are four.
    assert max(decisions[-1]["distribution"].values()) == pytest.approx(64 / 67)
    assert "Adapters: policy shipped (stance), summarizer shipped; temperature 0.500\n" in stdout
    assert config["model"] == "scripted model+policy"
    assert (config["adapter"], config["summarizer_adapter"]) == ("auto", "auto")
    for kind in KINDS:
        expected = hashlib.sha256(f"weights of the {kind}".encode()).hexdigest()
        assert config["adapters"][kind] == {"name": "shipped", "sha256": expected}
    file = both["policy"] / "calibration.json"
    assert config["adapters"]["calibration"] == {
        "file": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "temperature": 0.5,
    }


def test_summaries_are_never_written_with_the_policys_adapter(capsys, monkeypatch, data, tmp_path, both):
    arguments = ("--adapter", both["policy"], "--summarizer-adapter", "none", "--json")
    stdout, config, decisions, fields = run(capsys, monkeypatch, data, tmp_path / "r", *arguments)
    assert {row["text"] for row in fields} == {"Written with None."}
    assert {row["text"] for row in decisions if not row["recorded"]} == {"Written with policy."}
    told = json.loads(stdout)["adapters"]
    assert told == config["adapters"]
    assert (told["policy"]["name"], told["summarizer"]) == (str(both["policy"]), None)


def test_a_summarizers_adapter_leaves_the_policy_as_it_is(capsys, monkeypatch, data, tmp_path, both):
    stdout, _, decisions, fields = run(capsys, monkeypatch, data, tmp_path / "r", "--adapter", "none")
    assert {row["text"] for row in fields} == {"Written with summarizer."}
    assert decisions[-1]["distribution"] == pytest.approx(dict.fromkeys(STANCES, 0.25))
    assert "Adapters: policy none, summarizer shipped\n" in stdout


def test_a_checkout_without_adapters_runs_without_a_word_about_them(capsys, monkeypatch, data, tmp_path):
    stdout, config, _, _ = run(capsys, monkeypatch, data, tmp_path / "r")
    assert "Adapters" not in stdout
    assert config["adapters"] == {"policy": None, "summarizer": None, "calibration": None}
    assert config["model"] == "scripted model"
    for option in ("--adapter", "--summarizer-adapter"):
        assert main(["run", "--data", str(data), "--out", str(tmp_path / "s"), option, "shipped"]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "mesa-meanfield run: " in err
        assert "no adapter is shipped there" in err
    assert not (tmp_path / "s").exists()


def test_a_model_without_adapters_can_have_a_temperature(capsys, data, tmp_path):
    flat = write_calibrations(tmp_path, [Calibration("stance", STANCES, 1e6, 1.0, 0.9, 10)])
    asked = ["--backend", "scripted", "--data", data, "--calibration", flat, "--out", tmp_path / "r", "--json"]
    status = main(["run", *map(str, asked)])
    result = json.loads(capsys.readouterr().out)
    assert status == 0
    assert list(result["simulated"].values()) == pytest.approx([0.25] * 4, abs=1e-4)
    assert result["adapters"]["calibration"]["temperature"] == 1e6


def test_neither_torch_nor_peft_is_imported_for_this(data, tmp_path):
    asked = ["run", "--backend", "scripted", "--data", str(data), "--out", str(tmp_path / "r")]
    code = (
        "import sys\n"
        "from mesa_meanfield.cli import main\n"
        f"status = main({asked!r})\n"
        "print(status, {'torch', 'peft', 'transformers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 set()"


# --- With a real model -----------------------------------------------------------------------------


@pytest.mark.torch
def test_shipped_adapters_answer_as_the_same_ones_by_path_do(capsys, data, tmp_path, there):
    pytest.importorskip("torch")
    import torch
    from ibtune_worlds import model, terse
    from tiny_models import one_thread, tokenizer

    from mesa_meanfield.ibtune.config import Lora
    from mesa_meanfield.ibtune.lora import put_back, save_adapter, weights_of, with_adapters

    with one_thread():
        model().save_pretrained(tmp_path / "model")
        tokenizer("llama").save_pretrained(tmp_path / "model")
        terse(tmp_path / "words")
        trained = with_adapters(model(), KINDS, Lora(rank=2), 0)
        generator = torch.Generator().manual_seed(0)
        for kind in KINDS:
            moved = {k: torch.randn(w.shape, generator=generator) * 0.3 for k, w in weights_of(trained, kind).items()}
            put_back(trained, kind, moved)
            save_adapter(trained, kind, there / kind)
        usual = ["run", "--data", data, "--backend", f"hf:{tmp_path / 'model'}", "--prompts", tmp_path / "words"]
        told = {}
        for name, policy, summarizer in (
            ("shipped", "shipped", "shipped"),
            ("paths", there / "policy", there / "summarizer"),
            ("auto", "auto", "auto"),
            ("none", "none", "none"),
            ("writes", "none", "shipped"),
        ):
            asked = ["--adapter", policy, "--summarizer-adapter", summarizer, "--agents", 4, "--no-texts"]
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # nothing of the libraries' own worries is for the user
                status = main([*map(str, [*usual, *asked, "--out", tmp_path / "runs" / name])])
            assert status == 0, capsys.readouterr().err
            rows = {
                file: [
                    json.loads(line) for line in (tmp_path / "runs" / name / f"{file}.jsonl").read_text().splitlines()
                ]
                for file in ("decisions", "fields")
            }
            told[name] = [row["distribution"] for row in rows["decisions"]], [row["text"] for row in rows["fields"]]
    assert told["shipped"] == told["paths"]
    assert told["auto"] == told["none"]  # it is not the embedded model
    assert told["shipped"][0] != told["writes"][0]
    assert told["shipped"][1] != told["none"][1]
    assert told["writes"][1][0] == told["shipped"][1][0]  # of the same recorded tick, by the same adapter


# --- In the package --------------------------------------------------------------------------------


def test_the_package_holds_all_files_of_the_adapters():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    patterns = settings["options.package_data"]["mesa_meanfield"].split()
    folder = ROOT / "mesa_meanfield" / "ibtune" / "adapters"
    files = [file.relative_to(ROOT / "mesa_meanfield") for file in folder.rglob("*") if file.is_file()]
    for kind in KINDS:
        of = Path("ibtune/adapters/smollm2-135m-instruct") / kind
        files += [of / name for name in ("adapter_config.json", "adapter_model.safetensors", "README.md")]
    files.append(Path("ibtune/adapters/smollm2-135m-instruct/policy/calibration.json"))
    for file in files:
        path = PurePosixPath(file.as_posix())
        assert any(len(path.parts) == len(PurePosixPath(p).parts) and path.match(p) for p in patterns), file


@pytest.fixture
def really_shipped(monkeypatch):
    monkeypatch.undo()
    return {kind: Path(shipped.resolve("shipped", kind)) for kind in KINDS if (shipped.FOLDER / kind).is_dir()}


def test_a_policy_is_shipped(really_shipped):
    assert "policy" in really_shipped


def test_the_shipped_policy_fits_the_labels_of_stance_as_they_are_asked_for(really_shipped):
    assert shipped.fits("policy", "embedded", "stance", known_labels("stance"))
    assert shipped.fits("summarizer", "embedded", "behaviour", known_labels("behaviour")) is (
        "summarizer" in really_shipped
    )
    (one,) = read_calibrations(really_shipped["policy"])
    assert one.decisions > 0


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_weights_are_small_and_of_16_bits_and_have_a_card(really_shipped, kind):
    if kind not in really_shipped:
        pytest.skip(f"optional: no {kind} is shipped")
    weights = (really_shipped[kind] / "adapter_model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", weights[:8])  # safetensors: the header's length, the header in JSON, the tensors
    header = json.loads(weights[8 : 8 + length])
    assert {one["dtype"] for name, one in header.items() if name != "__metadata__"} == {"F16"}
    assert len(weights) < 6e6
    assert json.loads((really_shipped[kind] / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    card = (really_shipped[kind] / "README.md").read_text(encoding="utf-8")
    for part in ("## Intended use", "## Figures", "## Data", "## Settings", "## Limits", "Apache-2.0"):
        assert part in card


@pytest.mark.model
def test_the_shipped_adapters_answer_on_the_embedded_model(really_shipped, embedded_model):
    from mesa_meanfield.backends.load import load_backend
    from mesa_meanfield.protocols import Request, Sampling

    base = load_backend("embedded", device="cpu")
    asked = [Request("A bridge closes.", "I fish. Which letter?", sampling=Sampling(max_tokens=8))]
    plain = base.score(asked, "AB")
    adapted = {kind: base.adapted(folder) for kind, folder in really_shipped.items()}
    assert abs(adapted["policy"].score(asked, "AB") - plain).max() > 1e-3
    assert all(one.generate(asked)[0].failure is None for one in adapted.values())
    assert base.score(asked, "AB") == pytest.approx(plain, abs=1e-5)
