#compdef @PROGRAMS@
# zsh completion for barman-cloud and the barman-cloud-* commands.
# Load it with:  source <(barman-cloud completion zsh)
_barman_cloud() {
    local line="${BUFFER[1,CURSOR]}" umbrella=barman-cloud word rest
    local -a found described
    [[ ${words[1]} == */* ]] && umbrella="${words[1]:h}/barman-cloud"
    while IFS=$'\t' read -r word rest; do
        if [[ $word == :files ]]; then
            _files
            return
        fi
        found+=("$word")
        described+=("$word${rest:+  -- $rest}")
    done < <("$umbrella" __complete "$line" 2>/dev/null)
    compadd -l -d described -- "${found[@]}"
}
if (( $+functions[compdef] )); then
    compdef _barman_cloud @PROGRAMS@
else
    _barman_cloud "$@"
fi
