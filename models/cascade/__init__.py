"""A recorded cascade as a Mesa model: its first part played, the rest simulated reader by reader."""
