"""What all tests share."""

import os

import hypothesis
import pytest

hypothesis.settings.register_profile("any machine", deadline=None)  # a loaded one is no failure
hypothesis.settings.load_profile("any machine")

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as load_backend does: before anything imports torch

MUST_RUN = "MESA_MEANFIELD_FAIL_ON_SKIP"
OPTIONAL = "optional: "
"""How a skip's reason begins that is right on any machine, such as one without the shared data."""


def unexpected_skips(config: pytest.Config) -> int:
    """How many tests were skipped that this run was meant to run."""
    reasons = [str(r.longrepr) for r in config.pluginmanager.getplugin("terminalreporter").stats.get("skipped", [])]
    torch_free = "not torch" in config.option.markexpr
    return sum(OPTIONAL not in why and not (torch_free and "No module named 'torch'" in why) for why in reasons)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Where everything must run, a skipped test is a failure, and it is said."""
    if os.environ.get(MUST_RUN) and (count := unexpected_skips(config)):
        terminalreporter.write_line(f"{count} skipped, but {MUST_RUN} is set: each must run here", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get(MUST_RUN) and session.exitstatus == 0 and unexpected_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def embedded_model() -> str:
    """The embedded model's folder; without it a test is skipped, where everything must run it fails."""
    pytest.importorskip("torch")
    from mesa_meanfield.backends.local.embedded import fetch
    from mesa_meanfield.errors import BackendError

    try:
        return str(fetch())
    except BackendError as error:
        pytest.skip(str(error))
