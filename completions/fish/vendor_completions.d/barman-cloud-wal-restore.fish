# fish completion for barman-cloud-wal-restore
source (status dirname)/barman-cloud.fish
