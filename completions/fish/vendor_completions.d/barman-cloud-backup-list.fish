# fish completion for barman-cloud-backup-list
source (status dirname)/barman-cloud.fish
