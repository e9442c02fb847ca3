"""What a person reads of an evaluation: the page, its pictures, the table and the verdict."""
