package testenv

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	clusterSlots = 16384
	// clusterTimeout is after how many milliseconds the nodes take another for dead.
	clusterTimeout = "1000"
)

// RedisCluster is a Redis Cluster of the test's own. Its nodes are masters, with
// equal shares of the slots, and have no replicas: when one is away, all refuse to
// work, as is Redis's default.
type RedisCluster struct {
	// URL names all nodes, as the relay takes it: redis-cluster://...
	URL string
	// Nodes are its servers, each with a URL of its own.
	Nodes []*Server

	t     testing.TB
	buses []string // the ports by which the nodes talk to each other
}

// StartRedisCluster starts a cluster, which takes it some seconds, and stops it
// when the test ends. A node that is restarted has forgotten its keys, but not its
// place in the cluster.
func StartRedisCluster(t testing.TB, nodes int) *RedisCluster {
	t.Helper()
	c := &RedisCluster{t: t}
	var addresses []string
	for range nodes {
		var bus string
		node := startRedis(t, func(string) []string {
			bus = freePort()
			return []string{"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", clusterTimeout}
		})
		c.Nodes, c.buses = append(c.Nodes, node), append(c.buses, bus)
		addresses = append(addresses, node.address())
	}
	c.URL = "redis-cluster://" + strings.Join(addresses, ",")
	for i, node := range c.Nodes {
		node.redis(func(ctx context.Context, client *redis.Client) error {
			if err := client.ClusterAddSlotsRange(ctx, clusterSlots*i/nodes, clusterSlots*(i+1)/nodes-1).Err(); err != nil {
				return err
			}
			// Each of another age, so that nothing has to be voted on.
			if err := client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
				return err
			}
			host, port, err := net.SplitHostPort(c.Nodes[0].address())
			if err != nil || i == 0 {
				return err
			}
			return client.Do(ctx, "CLUSTER", "MEET", host, port, c.buses[0]).Err()
		})
	}
	c.Await()
	return c
}

// Await returns when every node knows all others, and works.
func (c *RedisCluster) Await() {
	c.t.Helper()
	known := "cluster_known_nodes:" + strconv.Itoa(len(c.Nodes)) + "\r\n"
	for _, node := range c.Nodes {
		node.await(func(ctx context.Context, client *redis.Client) bool {
			info, err := client.ClusterInfo(ctx).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, known)
		})
	}
}

// Move moves the slot of the key, and all keys in it, to another node.
func (c *RedisCluster) Move(key string) {
	c.t.Helper()
	ctx := context.WithoutCancel(c.t.Context())
	slot := c.slot(key)
	from, to := c.holder(slot), c.Nodes[0]
	if from == to {
		to = c.Nodes[1]
	}
	host, port, err := net.SplitHostPort(to.address())
	if err != nil {
		c.t.Fatal(err)
	}
	setSlot := func(s *Server, how string, node *Server) {
		c.t.Helper()
		s.redis(func(ctx context.Context, client *redis.Client) error {
			return client.Do(ctx, "CLUSTER", "SETSLOT", slot, how, c.id(node)).Err()
		})
	}
	setSlot(to, "IMPORTING", from)
	setSlot(from, "MIGRATING", to)
	from.redis(func(_ context.Context, client *redis.Client) error {
		for {
			keys, err := client.ClusterGetKeysInSlot(ctx, int(slot), 100).Result()
			if err != nil || len(keys) == 0 {
				return err
			}
			for _, key := range keys {
				if err := client.Migrate(ctx, host, port, key, 0, readyLimit).Err(); err != nil {
					return fmt.Errorf("migrate %s: %w", key, err)
				}
			}
		}
	})
	setSlot(to, "NODE", to) // first, so that the slot is always somebody's
	for _, node := range c.Nodes {
		setSlot(node, "NODE", to)
	}
}

// slot is that of the key.
func (c *RedisCluster) slot(key string) (slot int64) {
	c.t.Helper()
	c.Nodes[0].redis(func(ctx context.Context, client *redis.Client) (err error) {
		slot, err = client.ClusterKeySlot(ctx, key).Result()
		return err
	})
	return slot
}

// Node is the node that holds the key.
func (c *RedisCluster) Node(key string) *Server {
	c.t.Helper()
	return c.holder(c.slot(key))
}

func (c *RedisCluster) holder(slot int64) (holder *Server) {
	c.t.Helper()
	c.Nodes[0].redis(func(ctx context.Context, client *redis.Client) error {
		ranges, err := client.ClusterSlots(ctx).Result()
		if err != nil {
			return err
		}
		for _, r := range ranges {
			for _, node := range c.Nodes {
				if int64(r.Start) <= slot && slot <= int64(r.End) && r.Nodes[0].Addr == node.address() {
					holder = node
				}
			}
		}
		return nil
	})
	if holder == nil {
		c.t.Fatalf("nobody holds slot %d", slot)
	}
	return holder
}

// id is the node's name among the nodes.
func (c *RedisCluster) id(node *Server) (id string) {
	c.t.Helper()
	node.redis(func(ctx context.Context, client *redis.Client) (err error) {
		id, err = client.ClusterMyID(ctx).Result()
		return err
	})
	return id
}
