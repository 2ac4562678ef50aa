# Says which folders these are, whatever they are called and wherever they are mounted; only reads. Arguments: the folder
# that they are in, a file that is looked for in each, and their names.
#
# On a line each the folder and those in it, an empty line, and the folders that it is in, up to where it is mounted.
set -u
cd -P -- "$1" || exit 1
witness=$2
shift 2

# The file system's own name, which each mount of it has, and the folder's number in it; the number that the mount has
# here alone; and whether the file is there.
tell() {
    system=$(stat -f -c %i .) && numbers=$(stat -c "%i %d" .) || exit 1
    if [ -n "$witness" ] && [ -e "$witness" ]; then seen=seen; else seen=unseen; fi
    echo "$system $numbers $seen"
}

tell
for name; do
    if [ -d "$name" ]; then
        (cd -P -- "$name" && tell) || exit 1
    fi
done
echo
# What is above a mount is another file system, or / itself.
while [ "$(stat -c %d .)" = "$(stat -c %d ..)" ] && [ "$(stat -c %i .)" != "$(stat -c %i ..)" ]; do
    cd -P .. && tell || exit 1
done
