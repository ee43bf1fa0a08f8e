# fish completion for barman-cloud-wal-archive
source (status dirname)/barman-cloud.fish
