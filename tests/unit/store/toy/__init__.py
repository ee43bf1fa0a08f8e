"""A provider that only the tests have: what docs/explanation/new-store.md describes, in its smallest form."""
