# Unpacks what comes on stdin, and prints "whole", or "failed" and why. Argument: the folder, which is made.
#
# stdin is, on a line, a number of units of 64 KiB, and then these; and so on, until the number 0 and the checksum of all
# of them. The end is said, and not shown by closing stdin: older clusters have no way to close it, and busybox's tar
# would wait for ever.
set -u
exec 3>&1

fail() {
    echo "failed: $1" >&3
    # A command that ends with stdin unread never tells older kubelets that it has ended.
    cat >/dev/null
    exit 1
}

units() {
    while read -r units sum && [ "$units" -gt 0 ]; do
        { said=$(dd bs=65536 count="$units" iflag=fullblock 2>&1 >&5); } 5>&1 || fail "dd: exit code $?: $said"
    done
    [ "$units" = 0 ] || fail "what arrived is not what was sent"
    echo "$sum  -" >sum
}

said=$({ md5sum && tee; } 2>&1 >/dev/null </dev/null) || fail "md5sum and tee: exit code $?: $said"
said=$({ mkdir -m 700 "$1" && cd "$1" && mkdir tree; } 2>&1) || fail "$said"
cd "$1" || fail "$1 is gone"
found=$({
    units | tee /dev/fd/4 | {
        said=$(tar -xpf - -C tree 2>&1 4>&-) || fail "tar: exit code $?: $said"
        cat >/dev/null # what follows the archive's end
        : >unpacked
    }
} 4>&1 | md5sum)
[ -e sum ] && [ -e unpacked ] || exit 1
[ "$found" = "$(cat sum)" ] || fail "what arrived is not what was sent"
echo whole
