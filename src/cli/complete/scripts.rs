//! What a shell loads so that it asks us for completions.

/// The shells that are known.
pub(crate) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The script for a shell.
pub(crate) fn of(shell: &str) -> Option<&'static str> {
    match shell {
        "bash" => Some(BASH),
        "zsh" => Some(ZSH),
        "fish" => Some(FISH),
        _ => None,
    }
}

// Bash breaks words at colons, which references contain, so the words are taken from the line itself.
const BASH: &str = r#"# Completion of al for bash. Load it with: source <(al completions bash)
_al() {
    local line=${COMP_LINE:0:COMP_POINT} word
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    local typed=${words[${#words[@]}-1]}
    local broken=
    [[ $COMP_WORDBREAKS == *:* && $typed == *:* ]] && broken=${typed%"${typed##*:}"}
    COMPREPLY=()
    while IFS= read -r word; do
        word=${word%%$'\t'*}
        COMPREPLY+=("${word#"$broken"}")
    done < <(al __complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _al al
"#;

const ZSH: &str = r#"#compdef al
# Completion of al for zsh. Load it with: source <(al completions zsh)
_al() {
    local line
    local -a found
    for line in "${(@f)$(al __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        [[ -z $line ]] && continue
        local word=${${line%%$'\t'*}//:/\\:} about=
        [[ $line == *$'\t'* ]] && about=:${line#*$'\t'}
        found+=("$word$about")
    done
    if (( ${#found} )); then
        _describe al found
    else
        _files
    fi
}
if [[ ${funcstack[1]} == _al ]]; then
    _al "$@"
else
    compdef _al al
fi
"#;

const FISH: &str = r#"# Completion of al for fish. Load it with: al completions fish | source
function __al_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (al __complete $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c al -f -a '(__al_complete)'
"#;
