# bash completion for barman-cloud and the barman-cloud-* commands.
# Load it with:  source <(barman-cloud completion bash)
_barman_cloud() {
    local line=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]} umbrella=barman-cloud word head rest
    # By a path: the umbrella that is beside it.
    [[ ${COMP_WORDS[0]} == */* ]] && umbrella=${COMP_WORDS[0]%/*}/barman-cloud
    # Bash breaks words at colons: what stands before the last one is on the line already.
    word=${line##*[[:space:]]}
    head=${word%"$current"}
    COMPREPLY=()
    while IFS=$'\t' read -r word rest; do
        if [[ $word == :files ]]; then
            compopt -o default 2>/dev/null
            return
        fi
        COMPREPLY+=("${word#"$head"}")
    done < <("$umbrella" __complete "$line" 2>/dev/null)
}
complete -F _barman_cloud @PROGRAMS@
