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
# Loaded by zsh itself, out of a directory of its fpath, this is the function, and somebody waits for its answer.
if [[ ${funcstack[1]} == _barman_cloud ]]; then
    _barman_cloud "$@"
elif (( $+functions[compdef] )); then
    compdef _barman_cloud @PROGRAMS@
else
    echo 'barman-cloud: completion needs compinit first: autoload -Uz compinit && compinit' >&2
fi
