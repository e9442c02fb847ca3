"""What decides where no language model is at hand: the backend "scripted"."""

import re


def habit(request, word):
    """The probability of ``protest`` or ``quiet``: hardship and company are for it, police and care against."""
    seen = request.suffix
    protest = 0.05 if "good" in seen else 0.9 if "very hard" in seen else 0.4
    protest *= 0.5 if "careful" in seen else 1
    protest *= 0.3 if "much police" in seen else 0.6 if "a little police" in seen else 1
    protest *= 1.6 if "Many people" in seen else 1.2 if "A few people" in seen else 1
    shares = re.findall(r"protest ([\d.]+)%", request.prefix)  # of all so far, and of the latest tick
    if shares:
        protest *= 0.5 + 2 * float(shares[-1]) / 100
    return min(protest, 0.98) if word == "protest" else 1 - min(protest, 0.98)
