"""Hostile bytes for everything that reads what somebody else may have written."""
