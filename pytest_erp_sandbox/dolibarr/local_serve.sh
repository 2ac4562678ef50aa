# Runs a program until it ends, or until whoever holds our standard input is gone, killed or not. Then all of this process
# group ends (the workers of PHP's server outlive it), and the folder goes, which is given first.
folder=$1
shift
trap '' TERM
(
    trap - TERM
    "$@" </dev/null
    kill -KILL 0
) &
read -r _
kill -TERM 0
rm -rf -- "$folder"
kill -KILL 0
