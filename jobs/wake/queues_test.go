package wake

import (
	"fmt"
	"strings"
	"testing"
)

// A group's tasks are in one queue always, and groups in all of them.
func TestQueuesOfGroups(t *testing.T) {
	t.Parallel()
	for _, n := range []queues{1, clusterQueues} {
		seen := map[string]int{}
		for id := range 100 {
			seen[n.of(group(fmt.Sprint("destination_", id)))]++
		}
		for _, name := range n.names(deliverKind) {
			if seen[name] == 0 || strings.ContainsAny(name, "{}") {
				t.Errorf("%d of %d groups are in %s", seen[name], 100, name)
			}
		}
		if len(seen) != int(n) || len(n.weights(deliverKind)) != int(n) {
			t.Errorf("%d queues: %v", n, seen)
		}
	}
}
