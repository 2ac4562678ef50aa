"""Measures what the README promises: ``make bench``."""
