"""A server's description of itself, for tests to vary."""

from barman_cloud.postgres.connection import ServerMetadata

SERVER = ServerMetadata(
    system_identifier="7",
    version=180000,
    in_recovery=False,
    segment_size=16 << 20,
    data_directory="/data",
    config_file=None,
    hba_file=None,
    ident_file=None,
    hosts_file=None,
    included_files=(),
    tablespaces=(),
    data_checksums="on",
    summarize_wal=None,
    archive_mode="on",
    archive_command="archive %p",
    archive_library="",
    block_size=8192,
    relation_segment_blocks=131072,
    cluster_size=None,
)
