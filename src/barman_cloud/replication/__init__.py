"""PostgreSQL's streaming replication protocol: sessions, base backups."""
