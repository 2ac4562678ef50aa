# Lists what is in some folders; only reads. Arguments: the folder that they are in, and their names.
#
# The listing comes in portions: how many there are, on a line; of each its attributes, on a line; then their paths, and
# then where they point, each ended by a NUL, because a path may hold anything else.
set -u
cd -- "$1" || exit 1
shift
for name; do
    shift
    if [ -e "$name" ] || [ -L "$name" ]; then set -- "$@" "$name"; fi
done
[ $# -gt 0 ] || exit 0
# Where find fails, an empty path, at which stat fails: a pipe has the last one's exit code. (Two NULs: find may have been
# within a path.)
{ find "$@" -print0 || printf '\0\0'; } | xargs -0 -r -n 500 sh -c '
    echo $#
    stat -c "%f|%s|%u:%g|%y|%z" -- "$@" || exit 255
    printf "%s\0" "$@"
    for path; do
        if [ -L "$path" ]; then readlink -n -- "$path"; fi
        printf "\0"
    done
' sh
