"""Language models inside this process, by transformers and peft. Only here is torch imported."""
