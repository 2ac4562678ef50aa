# Unpacks what comes on stdin, and prints "whole", or "failed" and why. Argument: the folder, which is made.
#
# stdin is, on a line, a number of units of 64 KiB and their checksum, then so many units; and so on, until the number 0.
# None gets to tar before the checksum was compared. The end is said, and not shown by closing stdin: older clusters have
# no way to close it, and busybox's tar would wait for ever.
set -u
exec 3>&1

fail() {
    echo "failed: $1" >&3
    stop
}

# A command that ends with stdin unread never tells older kubelets that it has ended.
stop() {
    cat >/dev/null
    exit 1
}

hand_on() {
    found=$(md5sum <"$1" 2>&1) || fail "md5sum: exit code $?: $found"
    [ "$found" = "$2  -" ] || fail "what arrived is not what was sent"
    cat "$1" || fail "cat: exit code $?"
}

said=$({ mkdir -m 700 "$1" && cd "$1" && mkdir tree; } 2>&1) || fail "$said"
cd "$1" || fail "$1 is gone"
{
    # One batch comes in while the one before is handed on.
    batch=a handing=
    while read -r units sum && [ "$units" -gt 0 ]; do
        said=$(dd bs=65536 count="$units" iflag=fullblock of="$batch" 2>&1) || fail "dd: exit code $?: $said"
        wait $handing || stop
        hand_on "$batch" "$sum" &
        handing=$!
        if [ "$batch" = a ]; then batch=b; else batch=a; fi
    done
    wait $handing || stop
    [ "$units" = 0 ] || fail "what arrived is not what was sent"
    rm -f a b
    : >end
} | {
    said=$(tar -xpf - -C tree 2>&1) || fail "tar: exit code $?: $said"
    cat >/dev/null # what follows the archive's end
} && [ -e end ] && echo whole
