package chaos

import (
	"testing"

	"oprelay/deploy/testenv"
	"oprelay/storage"
	"oprelay/storage/seal"
)

// The master goes away in the middle of everything, and a replica takes its place:
// what it had not heard of yet is lost to Redis, and to nobody else.
func TestSentinelFails(t *testing.T) {
	t.Parallel()
	s := testenv.StartRedisSentinel(t, 2)
	r := newRig(t, testenv.Postgres(t), s.URL, 3)
	failover := func(harm, mend func(*testenv.Server)) func(*testing.T, *episode) {
		return func(t *testing.T, e *episode) {
			t.Helper()
			old := s.Master()
			harm(old)
			s.AwaitFailover(old)
			e.recovered()
			mend(old)
			if *long { // the sentinels take their time to tell the old master that it is none
				s.AwaitReplica(old)
			}
		}
	}
	faults := []fault{{name: "Redis Sentinel: the master killed, and back as a replica", inject: failover((*testenv.Server).Kill, (*testenv.Server).Restart)}}
	if *long {
		faults = append(faults, fault{
			name:   "Redis Sentinel: the master stopped (SIGSTOP), and back as a replica",
			inject: failover((*testenv.Server).Pause, (*testenv.Server).Resume),
		})
	}
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			f.order, f.refusal = 30+i, leave
			r.endure(t, f)
		})
	}
}

// A node of a cluster goes away, with all nodes refusing to work meanwhile, and
// comes back empty; or its slots go to another node.
func TestClusterFails(t *testing.T) {
	t.Parallel()
	c := testenv.StartRedisCluster(t, 3)
	r := newRig(t, testenv.Postgres(t), c.URL, 3)
	const queue = "{deliver:0}"
	for i, f := range []fault{
		{name: "Redis Cluster: a queue's slot moved to another node", inject: func(t *testing.T, e *episode) {
			t.Helper()
			for range 10 {
				c.Move(queue)
				await(t, theForm().spell/10)
			}
			e.recovered()
		}},
		{name: "Redis Cluster: a node killed, and started again empty", inject: func(t *testing.T, e *episode) {
			t.Helper()
			node := c.Node(queue)
			node.Kill()
			await(t, theForm().stopped) // so long that the others notice
			node.Restart()
			c.Await()
			e.recovered()
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			f.order, f.refusal = 35+i, leave
			r.endure(t, f)
		})
	}
}

// The pooler between the relay and PostgreSQL goes away, transactions and all.
func TestPgBouncerFails(t *testing.T) {
	t.Parallel()
	database := testenv.Postgres(t)
	migrate(t, database)
	pooler := testenv.StartPgBouncer(t, database, "default_pool_size = 10")
	r := newRig(t, pooler.URL, testenv.Redis(t), 3)
	faults := []fault{{name: "PgBouncer: killed and started again", refuses: true, inject: func(t *testing.T, e *episode) {
		t.Helper()
		pooler.Kill()
		await(t, theForm().spell)
		pooler.Restart()
		e.recovered()
	}}}
	if *long {
		faults = append(faults, fault{name: "PgBouncer: stopped (SIGSTOP)", refuses: true, inject: func(t *testing.T, e *episode) {
			t.Helper()
			pooler.Pause()
			await(t, theForm().stopped)
			pooler.Resume()
			e.recovered()
		}})
	}
	for i, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			f.order, f.refusal = 50+i, repeat
			r.endure(t, f)
		})
	}
}

// migrate migrates the database at once, which a pooler between would not allow.
func migrate(t *testing.T, url string) {
	t.Helper()
	keys, err := seal.ParseKeyring(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(t.Context(), storage.Config{URL: url, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if _, err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}
