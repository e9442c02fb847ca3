"""Data flows one way: a module imports from lower floors only, as DESIGN says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    {"display"},
    {"data", "description", "errors", "forms", "machine", "odd", "plain", "quota", "seeds", "progress"},
    {"protocols", "directory", "guarded", "tomlfile"},
    {"actions", "activation", "audit", "prompts", "provenance", "schema"},
    {"drafts", "choosers", "cascades", "cascades.jsonl", "cascades.dimensions", "cascades.personas",
     "cascades.annotations", "cascades.known", "cascades.ced", "cascades.conversion", "cascades.masking",
     "cascades.records", "cascades.tables", "cascades.threads", "cascades.tweets", "cascades.weibo"},
    {"notebook", "evaluation", "evaluation.metrics", "evaluation.cases", "evaluation.scorecard", "evaluation.curves",
     "evaluation.quantiles", "evaluation.conformal",
     "evaluation.decisions", "evaluation.dynamics", "evaluation.forecasts", "evaluation.intervals",
     "evaluation.scoring"},
    {"backends", "backends.batching", "backends.merging",
     "backends.scripted", "backends.drawn", "backends.kept", "backends.load",
     "backends.server", "backends.asking", "backends.questions", "backends.answers", "backends.http",
     "backends.adapted", "backends.asked", "backends.budget", "backends.calls", "backends.coding",
     "backends.counting", "backends.database",
     "backends.log", "backends.units", "backends.watched", "backends.local", "backends.local.adapters",
     "backends.local.backend",
     "backends.local.batches", "backends.local.caches", "backends.local.decode", "backends.local.embedded",
     "backends.local.grammar", "backends.local.likelihood", "backends.local.loading", "backends.local.memory",
     "backends.local.peaks", "backends.local.prefill", "backends.local.rendering", "backends.local.rows",
     "backends.local.sampling", "backends.local.shared",
     "backends.local.trie"},
    {"policy", "records", "rules", "summarizers"},
    {"interventions"},
    {"scheduler", "agents"},
    {"ibtune", "ibtune.batches", "ibtune.calibration", "ibtune.cards", "ibtune.checkpoints", "ibtune.config",
     "ibtune.items", "ibtune.looks", "ibtune.loop", "ibtune.lora", "ibtune.objectives", "ibtune.packing",
     "ibtune.plots", "ibtune.processes", "ibtune.sampling", "ibtune.shipped", "ibtune.stages", "ibtune.tune",
     "store", "appendix", "bench", "evaluation.comparison", "evaluation.likelihood", "evaluation.results",
     "evaluation.rivals", "evaluation.waves",
     "evaluation.rollouts", "evaluation.selection", "evaluation.report", "evaluation.report.drawing",
     "evaluation.report.figures", "evaluation.report.notebook", "evaluation.report.page", "evaluation.report.pages",
     "evaluation.report.plots", "evaluation.report.table",
     "evaluation.report.verdict", "evaluation.report.views", "evaluation.annotation",
     "evaluation.annotation.agreement", "evaluation.annotation.annotator", "evaluation.annotation.label_cache",
     "evaluation.annotation.label_form"},
    {"experiments", "experiments.backtest", "experiments.bands", "experiments.comparison",
     "experiments.counterfactual",
     "experiments.estimates", "experiments.objectives", "experiments.pairing", "experiments.planning",
     "experiments.racing", "experiments.replicas", "experiments.runs", "experiments.sweeps", "experiments.tables",
     "experiments.taps", "experiments.witness",
     "experiments.report", "experiments.report.examples", "experiments.report.figures",
     "experiments.report.notebook", "experiments.report.page", "experiments.report.views",
     "experiments.report.words"},
    {"reporters"},
    {"models"},
    {"viz", "viz.additions", "viz.curves", "viz.forms", "viz.frames", "viz.mesa_parts", "viz.page", "viz.painter",
     "viz.panels", "viz.parameters", "viz.record", "viz.runs", "viz.served", "viz.server", "viz.session", "viz.space",
     "viz.stepping", "viz.words"},
    {"cli", "cli.__main__", "cli.adapters", "cli.common", "cli.output", "cli.annotate", "cli.training",
     "cli.tune", "cli.tuning", "cli.bench", "cli.calibrate", "cli.calibration", "cli.convert", "cli.evaluate",
     "cli.compare", "cli.experiment", "cli.plan", "cli.planfile", "cli.planmodel", "cli.planparts",
     "cli.planrecords", "cli.plantables", "cli.work",
     "cli.describe", "cli.outcome", "cli.recording", "cli.rerun", "cli.weights", "cli.wording",
     "cli.evaluation", "cli.fetch", "cli.quick", "cli.run", "cli.scoring", "cli.serve", "cli.simulating",
     "cli.simulations",
     "cli.subjects"},
]  # fmt: skip
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
MAY_IMPORT = {
    "mesa": {"scheduler", "agents", "bench", "experiments.replicas", "experiments.taps", "models", "viz.mesa_parts"},
    "torch": {
        f"backends.local.{name}"
        for name in (
            "backend",
            "caches",
            "decode",
            "likelihood",
            "loading",
            "memory",
            "peaks",
            "rows",
            "sampling",
            "shared",
        )
    }
    | {
        f"ibtune.{name}"
        for name in (
            "checkpoints",
            "looks",
            "loop",
            "lora",
            "objectives",
            "packing",
            "processes",
            "sampling",
            "stages",
            "tune",
        )
    },
    "transformers": {f"backends.local.{name}" for name in ("caches", "loading", "rows", "shared")} | {"ibtune.lora"},
}


def modules() -> dict[str, Path]:
    found = {}
    for file in sorted((ROOT / "mesa_meanfield").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT / "mesa_meanfield").with_suffix("").parts)
        name = name.removesuffix("__init__").rstrip(".")
        if name:
            found[name] = file
    found.update({f"models:{file.relative_to(ROOT)}": file for file in (ROOT / "models").rglob("*.py")})
    return found


def floor_of(name: str) -> int:
    return FLOOR["models" if name.startswith("models:") else name]


def imports(file: Path) -> list[str]:
    found = []
    tree = ast.parse(file.read_text(encoding="utf-8"))
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def ours(name: str) -> str | None:
    if name.startswith("mesa_meanfield_models"):
        return "models"
    name = name.removeprefix("mesa_meanfield.")
    return name if name in FLOOR else None


def test_every_module_has_its_floor():
    assert {name for name in modules() if not name.startswith("models:")} == set(FLOOR) - {"models"}


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name):
    for imported in imports(modules()[name]):
        other = ours(imported)
        if other is not None and not (name.startswith("models:") and other == "models"):
            same_package = name.split(".")[0] == other.split(".")[0]
            assert FLOOR[other] < floor_of(name) or (same_package and FLOOR[other] == floor_of(name)), (
                f"{name} imports {other}, which is not below it"
            )


@pytest.mark.parametrize("library", MAY_IMPORT)
def test_heavy_libraries_are_imported_only_where_they_belong(library):
    for name, file in modules().items():
        if library in {imported.split(".")[0] for imported in imports(file)}:
            assert name.split(":")[0] in MAY_IMPORT[library], f"{name} imports {library}"


def test_importing_the_package_loads_neither_torch_nor_mesa():
    code = "import sys, mesa_meanfield; print({'torch', 'mesa', 'transformers', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_exported_name_is_there():
    import mesa_meanfield

    for name in mesa_meanfield.__all__:
        assert getattr(mesa_meanfield, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mesa_meanfield.nothing  # noqa: B018
