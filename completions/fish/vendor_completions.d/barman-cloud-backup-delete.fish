# fish completion for barman-cloud-backup-delete
source (status dirname)/barman-cloud.fish
