package testenv_test

import (
	"testing"

	"oprelay/deploy/testenv"
)

// Nodes serve each its slots, give them away, die, and come back.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cluster := testenv.StartRedisCluster(t, 3)
	for _, key := range []string{"a", "b", "c", "d"} {
		if err := connect(t, cluster.Node(key).URL).Set(t.Context(), key, key, 0).Err(); err != nil {
			t.Error(err)
		}
	}
	before := cluster.Node("a")
	cluster.Move("a")
	after := cluster.Node("a")
	if got := connect(t, after.URL).Get(t.Context(), "a").Val(); before == after || got != "a" {
		t.Errorf("moved from %s to %s, where it is %q", before.URL, after.URL, got)
	}
	after.Kill()
	after.Restart()
	cluster.Await()
	if cluster.Node("a") != after {
		t.Error("the restarted node has lost its place")
	}
}

// A master that is killed is followed by a replica, which has what it had.
func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	s := testenv.StartRedisSentinel(t, 1)
	old := s.Master()
	if old != s.Servers[0] {
		t.Errorf("the master is %s", old.URL)
	}
	if err := connect(t, old.URL).Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Error(err)
	}
	old.Kill()
	master := s.AwaitFailover(old)
	if got := connect(t, master.URL).Get(t.Context(), "key").Val(); got != "value" {
		t.Errorf("after the failover the key is %q", got)
	}
}
