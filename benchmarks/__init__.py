"""Measurements beside the peers; ``python -m benchmarks`` runs them, README.md says what they are."""
