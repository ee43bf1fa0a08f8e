"""Archiving and fetching WAL files."""
