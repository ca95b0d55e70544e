package wake

import (
	"hash/crc32"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// clusterQueues is how many queues a kind of group has in a Redis Cluster. A queue
// is one slot there, so one node does its work. Names that differ in a last digit
// from 0 to 3 are a quarter of all slots apart (CRC-16 is linear); with a fifth
// they would begin to gather, and each is one more to look at for an idle worker.
const clusterQueues = 4

// epochKey lives as long as what Redis holds beside it. The name of asynq's list
// of queues is the hash tag: in a Cluster it stands in that list's slot.
const epochKey = "relay:epoch:{asynq:queues}"

// queues is how many queues each kind of group has. The kinds have queues of their own,
// so that polls and deliveries do not starve each other. All processes have the same
// number, as they have the same Redis.
type queues int

func queuesIn(client redis.UniversalClient) queues {
	if _, ok := client.(*redis.ClusterClient); ok {
		return clusterQueues
	}
	return 1
}

// of is the queue of the group's tasks. It is always the same: task ids are
// compared within a queue.
func (n queues) of(g Group) string {
	return n.name(g.Kind, int(crc32.ChecksumIEEE([]byte(g.ID))%uint32(n)))
}

// name must hold no braces, which are asynq's: it makes the name the hash tag of
// all keys of the queue.
func (n queues) name(kind string, i int) string {
	if n == 1 {
		return kind
	}
	return kind + ":" + strconv.Itoa(i)
}

// names are all queues of a kind.
func (n queues) names(kind string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = n.name(kind, i)
	}
	return all
}

// weights are the queues of a kind as asynq wants them: all alike.
func (n queues) weights(kind string) map[string]int {
	all := map[string]int{}
	for _, name := range n.names(kind) {
		all[name] = 1
	}
	return all
}

// epochs are the keys that tell of a loss of data. In a Cluster each node can lose
// its own, so there is one beside each queue as well.
func (n queues) epochs(kinds []string) []string {
	keys := []string{epochKey}
	if n > 1 {
		for _, kind := range kinds {
			for _, name := range n.names(kind) {
				keys = append(keys, "relay:epoch:{"+name+"}")
			}
		}
	}
	return keys
}
