"""PostgreSQL physical backup, WAL archiving and recovery straight to and from cloud object storage."""

__version__ = "4.0.0"
