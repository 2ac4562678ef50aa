# Removes what a run that was cut off has left, and puts back what it had taken away. Argument: the documents' folder.
set -u
cd -- "$1" || exit 1
for old in .erp-sandbox-old-*; do
    for each in "$old"/*; do
        name=${each##*/}
        if [ -d "$each" ] && [ ! -e "$name" ]; then
            mv -- "$each" "$name" || exit 1
        fi
    done
done
rm -rf -- .erp-sandbox-old-* .erp-sandbox-incoming-* .erp-sandbox-witness-* .erp-sandbox-keeping
