# Says whose folders these are, how they were, and how they are; only reads. Arguments: the folder that they are in, the
# script that lists, and their names.
#
# A line with the marker, a line with the number of the golden listing's bytes, the golden listing, a listing of now.
set -u
cd -- "$1" || exit 1
list=$2
shift 2
echo "$(cat .erp-sandbox 2>/dev/null)"
if [ -f .erp-sandbox-golden/listing ]; then
    echo $(($(wc -c <.erp-sandbox-golden/listing)))
    cat .erp-sandbox-golden/listing
else
    echo 0
fi
sh -c "$list" sh . "$@"
