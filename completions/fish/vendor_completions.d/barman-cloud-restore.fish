# fish completion for barman-cloud-restore
source (status dirname)/barman-cloud.fish
