import matplotlib.image
import numpy as np
import pytest
from worlds import action, cascade

from mesa_meanfield.evaluation.report.plots import trend


def draw(file, labels, real=None, simulated=None, *, warm_up=6, title="walrus · tally"):
    """The picture as an array, shape (height, width, 4)."""
    real = cascade(20, labels).actions if real is None else real
    simulated = cascade(20, labels[::-1]).actions if simulated is None else simulated
    trend(file, real, simulated, warm_up=warm_up, dimension="stance", labels=labels, title=title)
    return matplotlib.image.imread(file)


@pytest.mark.parametrize("k", [2, 4, 6])
def test_the_trend_is_a_png_of_a_size_that_fits_a_page(tmp_path, k):
    file = tmp_path / "trend.png"
    picture = draw(file, tuple(f"label {i}" for i in range(k)))
    assert file.read_bytes().startswith(b"\x89PNG\r\n")
    height, width, _ = picture.shape
    assert 600 < width < 2400
    assert 300 < height < 1400
    assert file.stat().st_size < 500_000
    assert len(np.unique(picture[..., 0])) > 50  # something is drawn


def test_six_labels_take_a_second_row(tmp_path):
    four, six = (draw(tmp_path / f"{k}.png", tuple(f"label {i}" for i in range(k))) for k in (4, 6))
    assert six.shape[1] == four.shape[1]
    assert six.shape[0] > 1.5 * four.shape[0]


def test_the_simulated_curve_is_drawn(tmp_path):
    labels, real = ("support", "deny"), cascade(20, ("support", "deny")).actions
    same, other = draw(tmp_path / "a.png", labels, real, real), draw(tmp_path / "b.png", labels, real)
    assert same.shape == other.shape
    assert not np.array_equal(same, other)


def test_exact_distributions_are_drawn_instead_of_what_was_sampled(tmp_path):
    labels, real = ("support", "deny"), cascade(20, ("support", "deny")).actions

    def simulated(sampled):
        even = {"support": 0.5, "deny": 0.5}
        return [*real[:6], *(action(f"b{i}", sampled, distribution=even) for i in range(14))]

    first, second = (draw(tmp_path / f"{s}.png", labels, real, simulated(s)) for s in labels)
    assert np.array_equal(first, second)


def test_a_run_without_warm_up_or_with_failures_alone_is_drawn(tmp_path):
    labels = ("support", "deny")
    failed = [action(f"b{i}", None, failure="unreadable") for i in range(20)]
    assert (
        draw(tmp_path / "none.png", labels, warm_up=0).shape
        == draw(tmp_path / "all.png", labels, simulated=failed).shape
    )


@pytest.mark.parametrize("words", [("支持", "否认"), ("$x$", "$\\frac$"), ("a_b^c", "100%")])
def test_any_label_and_title_can_be_drawn(tmp_path, words):
    assert draw(tmp_path / "trend.png", words, title=f"{words[0]} and {words[1]}").size
