"""What decides where no language model is at hand: the backend "scripted"."""

import re


def habit(request, word):
    """The probability of ``stay`` or ``move``: the fewer are alike and the more others moved, the rather move."""
    chances = {"None": 0.9, "Few": 0.6, "no neighbours": 0.3, "About half": 0.1, "Most": 0.03, "All": 0.03}
    move = next(p for said, p in chances.items() if said in request.suffix)
    shares = re.findall(r"move ([\d.]+)%", request.prefix)  # of all so far, and of the latest tick
    if shares:
        move *= 0.7 + 0.6 * float(shares[-1]) / 100
    return move if word == "move" else 1 - move
