# Keeps a golden copy of folders beside them, and a listing of them. Arguments: the folder that they are in, the script
# that lists, and their names.
set -u
cd -- "$1" || exit 1
list=$2
shift 2
keeping=.erp-sandbox-keeping
mkdir -m 700 "$keeping" "$keeping/tree" && cp -a -- "$@" "$keeping/tree" &&
    sh -c "$list" sh . "$@" >"$keeping/listing" && mv -- "$keeping" .erp-sandbox-golden
