package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	sentinels = 3
	// sentinelMaster is what the sentinels call the master.
	sentinelMaster = "relay"
)

// RedisSentinel is a Redis with replicas under the eyes of three sentinels, two of
// which have to agree that the master is dead: after a second without an answer.
type RedisSentinel struct {
	// URL names the sentinels, as the relay takes it: redis-sentinel://...
	URL string
	// Servers are the master of the beginning and its replicas. One that is
	// restarted is told by the sentinels whom to follow.
	Servers []*Server
	// Sentinels are redis-servers, too.
	Sentinels []*Server

	t testing.TB
}

// StartRedisSentinel starts a master, replicas and sentinels, which takes them some
// seconds, and stops them when the test ends.
func StartRedisSentinel(t testing.TB, replicas int) *RedisSentinel {
	t.Helper()
	s := &RedisSentinel{t: t}
	const atOnce = "--repl-diskless-sync-delay" // no wait for more replicas
	master := StartRedis(t, atOnce, "0")
	s.Servers = append(s.Servers, master)
	host, port, err := net.SplitHostPort(master.address())
	if err != nil {
		t.Fatal(err)
	}
	for range replicas {
		s.Servers = append(s.Servers, StartRedis(t, "--replicaof", host+" "+port, atOnce, "0"))
	}
	for _, replica := range s.Servers[1:] {
		replica.await(func(ctx context.Context, client *redis.Client) bool {
			info, err := client.Info(ctx, "replication").Result()
			return err == nil && strings.Contains(info, "master_link_status:up")
		})
	}
	var addresses []string
	for range sentinels {
		sentinel := startSentinel(t, host, port)
		s.Sentinels = append(s.Sentinels, sentinel)
		addresses = append(addresses, sentinel.address())
	}
	s.URL = "redis-sentinel://" + strings.Join(addresses, ",") + "?master=" + sentinelMaster
	s.Await()
	return s
}

// startSentinel starts a sentinel, which keeps what it knows in its configuration.
func startSentinel(t testing.TB, host, port string) *Server {
	t.Helper()
	program := redisServer(t)
	folder := t.TempDir()
	sentinel, own := startServer(t, func(own string) command {
		file := filepath.Join(folder, own+".conf")
		settings := fmt.Sprintf(`port %[1]s
bind %[2]s
dir %[3]s
sentinel monitor %[4]s %[5]s %[6]s %[7]d
sentinel down-after-milliseconds %[4]s 1000
sentinel failover-timeout %[4]s 5000
`, own, loopback, folder, sentinelMaster, host, port, sentinels/2+1)
		if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		return command{stopSignal: "KILL", ready: "sentinel id is", args: []string{program, file, "--sentinel"}}
	})
	sentinel.URL = "redis://" + net.JoinHostPort(loopback, own)
	return sentinel
}

// Await returns when every sentinel knows all others and every replica.
func (s *RedisSentinel) Await() {
	s.t.Helper()
	for _, sentinel := range s.Sentinels {
		sentinel.await(func(ctx context.Context, client *redis.Client) bool {
			asked := redis.NewMapStringStringCmd(ctx, "SENTINEL", "MASTER", sentinelMaster)
			err := client.Process(ctx, asked)
			master := asked.Val()
			return err == nil && master["flags"] == "master" &&
				master["num-other-sentinels"] == strconv.Itoa(len(s.Sentinels)-1) && master["num-slaves"] == strconv.Itoa(len(s.Servers)-1)
		})
	}
}

// Master is the server that the sentinels agree upon, as soon as they do.
func (s *RedisSentinel) Master() *Server {
	s.t.Helper()
	return s.agreed(func(*Server) bool { return true })
}

// AwaitFailover returns the new master when the sentinels have another than the old.
func (s *RedisSentinel) AwaitFailover(old *Server) *Server {
	s.t.Helper()
	return s.agreed(func(now *Server) bool { return now != old })
}

// agreed is the master that all sentinels name and that says that it is one, once
// there is one that will do.
func (s *RedisSentinel) agreed(does func(*Server) bool) (master *Server) {
	s.t.Helper()
	for _, sentinel := range s.Sentinels {
		sentinel.await(func(ctx context.Context, client *redis.Client) bool {
			asked := redis.NewStringSliceCmd(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinelMaster)
			if client.Process(ctx, asked) != nil || len(asked.Val()) != 2 {
				return false
			}
			at := asked.Val()
			for _, server := range s.Servers {
				if server.address() == net.JoinHostPort(at[0], at[1]) && does(server) {
					master = server
					return true
				}
			}
			return false
		})
	}
	master.await(func(ctx context.Context, client *redis.Client) bool {
		info, err := client.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "role:master")
	})
	return master
}

// AwaitReplica returns when the server follows another and is in step with it. The
// sentinels let one that calls itself a master do so for eight seconds.
func (s *RedisSentinel) AwaitReplica(server *Server) {
	s.t.Helper()
	server.await(func(ctx context.Context, client *redis.Client) bool {
		info, err := client.Info(ctx, "replication").Result()
		return err == nil && strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up")
	})
}
