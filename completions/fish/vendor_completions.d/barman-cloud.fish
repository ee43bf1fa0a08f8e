# fish completion for barman-cloud and the barman-cloud-* commands.
# Load it with:  barman-cloud completion fish | source
function __barman_cloud
    set -l line (commandline -cp)
    set -l program (commandline -opc)[1]
    set -l umbrella barman-cloud
    string match -q '*/*' -- $program; and set umbrella (string replace -r '/[^/]*$' '/barman-cloud' -- $program)
    set -l found ($umbrella __complete "$line" 2>/dev/null)
    if test "$found[1]" = ':files'
        __fish_complete_path (commandline -ct)
        return
    end
    printf '%s\n' $found
end
for program in barman-cloud barman-cloud-backup barman-cloud-backup-delete barman-cloud-backup-keep barman-cloud-backup-list barman-cloud-backup-show barman-cloud-check-wal-archive barman-cloud-restore barman-cloud-wal-archive barman-cloud-wal-restore
    complete -c $program -f -a '(__barman_cloud)'
end
