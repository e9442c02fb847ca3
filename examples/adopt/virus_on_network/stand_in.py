"""What decides where no language model is at hand: the backend "scripted"."""

import re


def habit(request, word):
    """The probability of ``out`` or ``home``: the nearer the flu, and the more others stay at home, the more home."""
    near = {"Nobody": 0.05, "Somebody": 0.35, "At least": 0.65}
    home = 0.9 if "You have" in request.suffix else next(p for said, p in near.items() if said in request.suffix)
    shares = re.findall(r"home ([\d.]+)%", request.prefix)  # of all so far, and of the latest tick
    if shares:
        home = 0.75 * home + 0.25 * float(shares[-1]) / 100
    return home if word == "home" else 1 - home
