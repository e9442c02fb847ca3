"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from client import ASK, INSIDE, OURS, STEP

KINDS = {
    "text": "Texts: {shared} shared + {own} own tokens, at most {new} new",
    "choice": "Labels: {shared} shared + {own} own tokens, one of three",
    "collapsed": "Labels of {crowd:,} agents in {archetypes} archetypes",
}
Result = Mapping[str, Any]


def markdown(result: Result) -> str:
    """All tables, with the date, the machine and the model above them."""
    where = result["machine"]
    device = where.get("device", "cpu")
    lines = [
        f"{result['date'][:10]}, {result['backend']}, {where['cpu']}, {where['cores']} cores"
        f"{'' if device == 'cpu' else ', ' + device}; "
        + ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    ]
    for kind, title in KINDS.items():
        if rows := result["rows"].get(kind):
            lines += ["", f"**{title.format(**result['settings'])}**", "", *_speeds(rows)]
    if phases := result.get("phases"):
        lines += ["", "**Where our time went**", "", *_phases(phases, result["peak"])]
    if client := result.get("client"):
        lines += ["", "**Client overhead, against a server that answers at once**", "", *_client(client)]
    return "\n".join(lines) + "\n"


def _speeds(rows: Mapping[str, Result]) -> Iterator[str]:
    yield "| | decisions per second | lowest to highest | reply tokens | ours is faster by |"
    yield "|---|---:|---:|---:|---:|"
    ours = rows.get("ours", {}).get("per_s")
    for name, row in rows.items():
        spread = f"{row['low']:,.3g} to {row['high']:,.3g}" if "low" in row else "extrapolated"
        tokens = f"{row['reply_tokens']:.1f}" if row.get("reply_tokens") else ""
        times = f"{ours / row['per_s']:,.1f} times" if ours and name != "ours" else ""
        unread = f" ({row['unread']} unreadable)" if row.get("unread") else ""
        yield f"| {name}{unread} | {row['per_s']:,.3g} | {spread} | {tokens} | {times} |"


def _phases(phases: Mapping[str, Mapping[str, Result]], peak: Result) -> Iterator[str]:
    yield "| | of the time | tokens per second | of the machine's peak |"
    yield "|---|---:|---:|---:|"
    for kind, parts in phases.items():
        for name, part in parts.items():
            if part["seconds"]:
                speed = f"{part['tokens'] / part['seconds']:,.0f}" if part.get("tokens") else ""
                share = "" if part.get("share_of_peak") is None else f"{part['share_of_peak']:.0%}"
                yield f"| {kind}: {name} | {part['share_of_time']:.1%} | {speed} | {share} |"
    yield ""
    yield (
        f"Peak, measured in the same run: {peak['flops_per_s'] / 1e9:,.0f} GFLOP/s in {peak['dtype']}, "
        f"{peak['bytes_per_s'] / 1e9:,.1f} GB/s."
    )


def _client(client: Mapping[str, Result]) -> Iterator[str]:
    yield "| | us per decision | lowest to highest | of these on the client's processor |"
    yield "|---|---:|---:|---:|"
    for name, row in client.items():
        spread = f"{row['low']:,.0f} to {row['high']:,.0f}" if "low" in row else ""
        processor = f"{row['processor_us']:,.0f}" if "processor_us" in row else ""
        yield f"| {name} | {row['us']:,.0f} | {spread} | {processor} |"
    yield ""
    step, ask, inside = (client[name]["us"] for name in (STEP, ASK, INSIDE))
    label, text = client[OURS["choice"]]["us"], client[OURS["text"]]["us"]
    yield (
        f"A label by mesa-llm's usual step costs {step / label:.1f} times our label over HTTP, a text by its bare "
        f"call {ask / text:.1f} times our text over HTTP; without a server ours costs {ask / inside:,.0f} times less "
        f"than that call."
    )
