# Unpacks what comes on stdin, and prints the checksum of it, or "failed" and why. Argument: the folder, which is made.
#
# stdin is a number of units of 64 KiB on a line, then so many units; and so on, until the number 0. The end is said, and
# not shown by closing stdin: older clusters have no way to close it, and busybox's tar would wait for ever.
set -u

# A command that ends with stdin unread never tells older kubelets that it has ended.
fail() {
    echo "failed: $1"
    cat >/dev/null
    exit 1
}

said=$({ mkdir -m 700 "$1" && cd "$1" && mkdir tree && mkfifo copy; } 2>&1) || fail "$said"
cd "$1" || fail "$1 is gone"
md5sum <copy >sum &
while read -r units && [ "$units" -gt 0 ]; do
    dd bs=65536 count="$units" iflag=fullblock 2>/dev/null || exit 1
done | tee copy | {
    said=$(tar -xpf - -C tree 2>&1) || fail "tar: exit code $?: $said"
    cat >/dev/null # what follows the archive's end counts for the checksum, too
} || exit 1
wait
cat sum
