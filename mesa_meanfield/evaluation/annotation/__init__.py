"""Labels for texts that have none, by a language model, and how far to trust them."""
