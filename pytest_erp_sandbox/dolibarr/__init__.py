"""Knows Dolibarr: its key encryption, users and rights, its API."""
