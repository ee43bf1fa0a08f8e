# fish completion for barman-cloud-backup
source (status dirname)/barman-cloud.fish
