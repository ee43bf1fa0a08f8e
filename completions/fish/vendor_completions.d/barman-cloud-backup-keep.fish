# fish completion for barman-cloud-backup-keep
source (status dirname)/barman-cloud.fish
