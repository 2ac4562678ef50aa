# Puts unpacked folders in the place of those that are there. Arguments: the folder that they are in, the one that they
# were unpacked into, one for the old ones, and their names.
set -u
cd -- "$1" || exit 1
incoming=$2 old=$3
shift 3
for name in "$@"; do
    if [ ! -d "$incoming/tree/$name" ]; then
        echo "$name did not arrive" >&2
        exit 1
    fi
    # mv would copy, file by file, and a cut would be seen.
    if [ -e "$name" ] && [ "$(stat -c %d "$name")" != "$(stat -c %d .)" ]; then
        echo "$name is a volume of its own, and cannot be replaced as a whole: name the folder in it" >&2
        exit 1
    fi
done
mkdir -m 700 "$old" || exit 1
# The listing first: without it a golden copy is none.
rm -rf -- .erp-sandbox-golden/listing && rm -rf -- .erp-sandbox-golden || exit 1
for name in "$@"; do
    if [ -e "$name" ]; then
        mv -- "$name" "$old/$name" || exit 1
    fi
    mv -- "$incoming/tree/$name" "$name" || {
        if [ -e "$old/$name" ]; then mv -- "$old/$name" "$name"; fi
        exit 1
    }
done
rm -rf -- "$incoming" "$old"
