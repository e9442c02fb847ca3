"""What all tests share."""

import os

import pytest

OPTIONAL = "optional: "
"""How a skip's reason begins that is right on any machine, such as one without the shared data."""


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where everything must run, a skipped test is a failure."""
    unexpected = [r for r in terminalreporter.stats.get("skipped", []) if OPTIONAL not in str(r.longrepr)]
    if os.environ.get("MESA_MEANFIELD_FAIL_ON_SKIP") and unexpected:
        terminalreporter.write_line(f"{len(unexpected)} skipped, and MESA_MEANFIELD_FAIL_ON_SKIP is set", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    unexpected = [r for r in reporter.stats.get("skipped", []) if OPTIONAL not in str(r.longrepr)]
    if os.environ.get("MESA_MEANFIELD_FAIL_ON_SKIP") and unexpected and session.exitstatus == 0:
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
