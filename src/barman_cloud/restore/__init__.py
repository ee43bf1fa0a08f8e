"""Bringing a base backup back."""
