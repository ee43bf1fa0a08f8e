# fish completion for barman-cloud-backup-show
source (status dirname)/barman-cloud.fish
