"""How a scorecard shows itself in a notebook: its verdict, and each entry's KL with its interval."""

from __future__ import annotations

from markupsafe import Markup

from mesa_meanfield.display import DIM, block, counted, dim, fold, hue, legible, table, whisker
from mesa_meanfield.evaluation.report.table import DASH, F1_MACRO, JS, NLL, by_kl, figure, interval, known
from mesa_meanfield.evaluation.report.verdict import verdict, winner
from mesa_meanfield.evaluation.scorecard import Card, Entry, Paired

_PAIRS = 10  # decided differences that are shown on demand


def card_html(card: Card) -> str:
    """A scorecard: one row for each entry, the lowest KL first, simulations above rivals."""
    columns = [one for one in (JS, F1_MACRO, NLL) if any(known(one.of(entry)) is not None for entry in card.entries)]
    heads = ["", "", "KL (nats)", "95 % interval", *(column.head for column in columns)]
    ends = [end for e in card.entries for end in (e.kl, *e.kl_ci) if known(end) is not None]
    scale = (0.0, max([card.noise_floor, *filter(None, ends)], default=1.0))
    rows = []
    for kind in ("simulation", "rival"):
        for entry in by_kl(card.entries, kind):
            drawn = DASH if known(entry.kl) is None else _drawn(card, entry, scale)
            shown = [column.show(column.of(entry)) for column in columns]
            rows.append([entry.name, drawn, figure(entry.kl), interval(entry.kl_ci), *shown])
    parts = [Markup("<p>{}</p>").format(legible(verdict(card))), table(heads, rows, range(2, len(heads)))]
    parts.append(
        dim(f"Rivals, which cost nothing, are grey; the dashed line is the noise floor {figure(card.noise_floor)}.")
    )
    decided = [pair for pair in card.paired if winner(pair)]
    if decided:
        told = [_told(pair) for pair in decided[:_PAIRS]]
        title = f"{counted(len(decided), 'paired difference')} beyond chance"
        parts.append(fold(title, table(("", "figure", "difference", "95 % interval", "better"), told, (2, 3))))
    others: tuple[Card, ...] = getattr(card, "others", ())
    if others:
        parts.append(dim(f"Also measured: {', '.join(other.dimension for other in others)} (.others)"))
    facts = [counted(card.cascades, "cascade"), counted(card.actions, "action")]
    return block(f"Scorecard on {card.dimension}", *parts, facts=facts)


def _drawn(card: Card, entry: Entry, scale: tuple[float, float]) -> str:
    simulations = [one.name for one in card.entries if one.kind == "simulation"]
    colour = DIM if entry.kind == "rival" else hue(simulations.index(entry.name))
    return whisker(entry.kl or 0.0, entry.kl_ci, scale, card.noise_floor, colour)


def _told(pair: Paired) -> tuple[str, ...]:
    shown = (figure(pair.difference, sign=True), interval(pair.ci, sign=True), winner(pair) or DASH)
    return (f"{pair.a} − {pair.b}", pair.metric, *shown)
