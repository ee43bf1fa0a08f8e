# fish completion for barman-cloud-check-wal-archive
source (status dirname)/barman-cloud.fish
