package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"oprelay/deploy/testenv"
)

// storeCounts are counters of the stores, from their start.
type storeCounts struct {
	// RedisCommands are those processed, what scripts call included.
	RedisCommands float64
	// Commits are transactions of PostgreSQL that wrote: those that were given a
	// number. xact_commit counts those that only read as well, which cost no
	// write-ahead log and no wait for the disk.
	Commits float64
	// Syncs are PostgreSQL's waits for the disk, several commits sharing one.
	Syncs float64
	// WALBytes is the write-ahead log.
	WALBytes float64
}

func (c storeCounts) since(then storeCounts) storeCounts {
	return storeCounts{
		RedisCommands: c.RedisCommands - then.RedisCommands,
		Commits:       c.Commits - then.Commits,
		Syncs:         c.Syncs - then.Syncs,
		WALBytes:      c.WALBytes - then.WALBytes,
	}
}

// counts asks both stores.
func (b *bench) counts(ctx context.Context) (c storeCounts, err error) {
	if c.RedisCommands, err = b.redisNumber(ctx, "stats", "total_commands_processed"); err != nil {
		return c, err
	}
	rows, err := testenv.Query(ctx, b.postgres.URL,
		"SELECT pg_snapshot_xmax(pg_current_snapshot()), wal_sync, pg_current_wal_insert_lsn() - '0/0' FROM pg_stat_wal")
	if err != nil {
		return c, err
	}
	for i, field := range strings.Split(rows, "|") {
		into := []*float64{&c.Commits, &c.Syncs, &c.WALBytes}[i]
		if *into, err = strconv.ParseFloat(field, 64); err != nil {
			return c, err
		}
	}
	return c, nil
}

// redisNumber is one number of what Redis tells about itself.
func (b *bench) redisNumber(ctx context.Context, section, name string) (float64, error) {
	value, err := b.redisInfo(ctx, section, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(value, 64)
}

// redisInfo is one thing that Redis tells about itself.
func (b *bench) redisInfo(ctx context.Context, section, name string) (string, error) {
	info, err := b.redisClient.Info(ctx, section).Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("the info of Redis has no %s", name)
}

func openRedis(url string) (*redis.Client, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	return redis.NewClient(options), nil
}
