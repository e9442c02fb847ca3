"""What decides where no language model is at hand: the backend "scripted"."""

import re


def habit(request, word):
    """The probability of ``keep`` or ``give``: the more one has, and the more others give, the more one gives."""
    chances = {"one coin": 0.15, "a few coins": 0.5, "many coins": 0.8}
    give = next(p for said, p in chances.items() if said in request.suffix)
    shares = re.findall(r"give ([\d.]+)%", request.prefix)  # of all so far, and of the latest tick
    if shares:
        give = 0.75 * give + 0.25 * float(shares[-1]) / 100
    return give if word == "give" else 1 - give
