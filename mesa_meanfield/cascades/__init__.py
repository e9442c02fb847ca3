"""Recorded cascades: the common format, what their labels mean, and who their authors are."""
