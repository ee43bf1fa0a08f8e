"""What we know about PostgreSQL; nothing here knows a store."""
