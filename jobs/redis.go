package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisDialTimeout = 2 * time.Second
	redisTimeout     = 2 * time.Second
	// scriptPause is how long a failed script call waits: with Redis answering
	// errors (out of memory, say) asynq's dequeue loop would otherwise repeat it
	// 15,000 times a second.
	scriptPause = 200 * time.Millisecond
)

// OpenRedis makes a client for redis://, rediss://, and
//
//	redis-sentinel://[user:password@]h1:p,h2:p[/database]?master=NAME
//	redis-cluster://[user:password@]h1:p,h2:p
//
// where the query may have tls=true, and for sentinels that want a password of
// their own sentinel_username and sentinel_password. It does not connect: Redis
// may be away when the relay starts.
func OpenRedis(rawURL string) (redis.UniversalClient, error) {
	options, err := parseRedisURL(rawURL)
	if err != nil {
		return nil, err
	}
	options.DialTimeout = redisDialTimeout
	options.ReadTimeout = redisTimeout
	options.WriteTimeout = redisTimeout
	options.ContextTimeoutEnabled = true
	options.MaxRetries = 1
	client := redis.NewUniversalClient(options)
	client.AddHook(pauseAfterScriptError{})
	return client, nil
}

// pauseAfterScriptError is a go-redis hook: see scriptPause.
type pauseAfterScriptError struct{}

// DialHook changes nothing.
func (pauseAfterScriptError) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing.
func (pauseAfterScriptError) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook pauses after a script call that failed.
func (pauseAfterScriptError) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
			return err
		}
		if name := cmd.Name(); name == "eval" || name == "evalsha" {
			wait(ctx, scriptPause)
		}
		return err
	}
}
