"""Object stores behind one written contract (``store.base``); a store knows nothing of PostgreSQL."""
