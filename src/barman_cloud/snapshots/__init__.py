"""Base backups as disk snapshots of a cloud provider."""
