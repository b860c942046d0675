# Comes before a command that may have to do with variables that stay.
# $1: this text. $2: the whole line of the shell. $3: the file with the variables; empty when it is not to be read.
if [ -f "$3" ]; then
    # The file may end the shell, by `exit` or by an error under `set -e` or `set -u`.
    trap 'echo "$3 ended the shell with status $?: correct or remove it; the command is run without it" >&2
        exec "$0" -c "$2" "$0" "$1" "$2" ""' EXIT
    # The call was cancelled: no command after that.
    trap 'trap - EXIT; exit 143' TERM
    # With `command`, an error in it does not end the shell.
    command . "$3" || :
    trap - EXIT TERM
fi
set --

setenv() {
    (
        export LC_ALL=C
        umask 077
        if [ "$#" -eq 0 ] || [ "$(($# % 2))" -ne 0 ]; then
            echo 'usage: setenv NAME value [NAME value ...]' >&2
            exit 2
        fi
        count=$(($# / 2)) line=export
        while [ "$#" -gt 0 ]; do
            case $1 in
            '' | [0-9]* | *[!A-Za-z0-9_]*)
                printf 'setenv: "%s" is not a name: letters, digits and _ are, but no digit first\n' "$1" >&2
                exit 2
                ;;
            esac
            # The system starts no program with a longer one.
            if [ "$((${#1} + ${#2}))" -gt 131000 ]; then
                printf 'setenv: the value of %s is too long for a variable; put it into a file\n' "$1" >&2
                exit 2
            fi
            # What the shell does not let anybody change is told by the shell.
            (export "$1=$2") || exit
            case $2 in
            # The x keeps newlines at the end.
            *\'*) quoted=$(printf '%sx' "$2" | sed "s/'/'\\\\''/g") || exit ;;
            *) quoted=$2x ;;
            esac
            line="$line $1='${quoted%x}'"
            shift 2
        done
        # One write at the end of the file, so that calls at the same time keep apart; the file may lack its last newline.
        if ! printf '\n%s\n' "$line" | dd ibs=65536 obs=2097152 2>/dev/null >>__FILE__; then
            echo 'setenv: the variables could not be written to' __FILE__ >&2
            exit 1
        fi
        echo "set $count variable(s)"
    ) && while [ "$#" -gt 0 ]; do
        export "$1=$2"
        shift 2
    done
}
