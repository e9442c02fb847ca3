"""What a person reads of an experiment: the page of a comparison and of a plan, with their pictures and words."""
