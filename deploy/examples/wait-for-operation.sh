#!/bin/sh
# Waits until an operation that Cloudflare has handed out ends, and exits as relay wait
# does: 0 if it completed.
#
#   wait-for-operation.sh OPERATION_ID ACCOUNT_ID
#
# It needs relay in PATH, RELAY_API_KEY with scope write, and RELAY_URL.
set -eu

if [ $# -ne 2 ]; then
	echo "usage: $0 OPERATION_ID ACCOUNT_ID" >&2
	exit 2
fi

# The id is all that is on stdout. From here on the watch is safe: it goes on without us.
watch=$(relay watch "$1" --account "$2" --metadata "host=$(uname -n)")

status=0
relay wait "$watch" --timeout "${WAIT_TIMEOUT:-1h}" || status=$?
case $status in
0) echo "$1 has completed: go on" ;;
1) echo "$1 has failed: put things right" ;;
3) echo "$1 did not end in time" ;;
4) echo "$1 cannot be seen: is the id right, and does the credential work?" ;;
5) echo "somebody canceled the watch" ;;
6) echo "$1 has not ended yet: relay wait $watch" ;;
*) echo "relay could not wait" ;;
esac
exit $status
