# Writes the archive of some folders to stdout; only reads. Arguments: the folder that they are in, and their names.
set -u
cd -- "$1" || exit 2
shift
# GNU tar may be set to another format; busybox knows no formats.
if tar --version 2>/dev/null | grep -q GNU; then
    exec tar --format=gnu -cf - -- "$@"
fi
exec tar -cf - "$@"
