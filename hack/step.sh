#!/bin/bash
# step.sh WHAT COMMAND... runs a command and says how long it took where that is over two seconds.
set -u
what=$1
shift
start=$(date +%s)
"$@" &
pid=$!
trap 'kill $pid 2>/dev/null' INT TERM
( while sleep 15; do echo "PROGRESS $what: $(($(date +%s) - start)) s so far"; done ) &
ticker=$!
wait $pid
rc=$?
kill $ticker 2>/dev/null
wait $ticker 2>/dev/null
took=$(($(date +%s) - start))
if [ $rc -ne 0 ]; then
  echo "PROGRESS $what: failed after $took s" >&2
elif [ $took -gt 2 ]; then
  echo "PROGRESS $what: $took s"
fi
exit $rc
