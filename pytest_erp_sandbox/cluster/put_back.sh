# Puts files back from their golden copy, and lists what is there then. Arguments: the folder that they are in, what its
# marker says, the script that lists, and the folders' names.
#
# stdin is a number of bytes on a line, then so many: the steps, each a letter and a path, ended by a NUL.
set -u
documents=$1 owner=$2 list=$3
shift 3
golden=.erp-sandbox-golden
# All of it, whatever happens: older kubelets never tell of the end of a command that leaves some unread.
read -r size || exit 1
head -c "$size" | {
    cd -- "$documents" && cat >"$golden/steps"
    code=$?
    cat >/dev/null
    exit $code
} || exit 1
cd -- "$documents" || exit 1
# A path that is cut off is another one.
if [ "$(wc -c <"$golden/steps")" != "$size" ]; then
    echo "the steps are cut off" >&2
    exit 1
fi
if [ "$(cat .erp-sandbox)" != "$owner" ]; then
    echo "the marker is gone" >&2
    exit 1
fi
xargs -0 -r -n 500 sh -c '
    from=$0
    for step; do
        path=${step#?}
        case $step in
            r*) rm -rf -- "$path" ;;
            m*) mkdir -p -- "$path" ;;
            c*) rm -rf -- "$path" && cp -a -- "$from/$path" "$path" ;;
            s*)
                chown "$(stat -c %u:%g -- "$from/$path")" "$path" &&
                    chmod "$(stat -c %a -- "$from/$path")" "$path" && touch -r "$from/$path" "$path"
                ;;
        esac || exit 255
    done
' "$golden/tree" <"$golden/steps" || exit 1
# Not by tee: the exit code would be its own.
sh -c "$list" sh . "$@" >"$golden/found" && cat "$golden/found"
