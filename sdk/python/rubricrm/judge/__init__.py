"""Which of two answers is better: a judge of the RubricRM family, its votes, and rewards."""
