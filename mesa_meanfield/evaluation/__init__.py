"""How close a simulated population is to the real one, with floors and rivals beside it."""
