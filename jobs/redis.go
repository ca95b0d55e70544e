package jobs

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
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

// OpenRedis makes a client for redis://, rediss://,
// redis-sentinel://[:password@]h1:p,h2:p?master=NAME, or
// redis-cluster://[user:password@]h1:p,h2:p. It does not connect: Redis may be
// away when the relay starts.
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

// CheckRedisURL says what is wrong with a URL for OpenRedis. It does not quote
// it: the URL may hold a password.
func CheckRedisURL(raw string) error {
	_, err := parseRedisURL(raw)
	return err
}

var errRedisURL = errors.New("want redis://, rediss://, redis-sentinel://h1:p,h2:p?master=NAME or redis-cluster://h1:p,h2:p")

func parseRedisURL(raw string) (*redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, errRedisURL
	}
	switch scheme {
	case "redis", "rediss":
		o, err := redis.ParseURL(raw)
		if err != nil {
			return nil, errors.New("not a Redis URL: want redis://[user:password@]host:port[/database]") // the cause may quote the password
		}
		return &redis.UniversalOptions{
			Addrs: []string{o.Addr}, Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLSConfig,
		}, nil
	case "redis-sentinel", "redis-cluster":
		return parseRedisHosts(scheme, rest)
	}
	return nil, errRedisURL
}

// parseRedisHosts reads the forms with several hosts, which net/url cannot.
func parseRedisHosts(scheme, rest string) (*redis.UniversalOptions, error) {
	rest, query, _ := strings.Cut(rest, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errRedisURL
	}
	rest, path, _ := strings.Cut(rest, "/")
	o := &redis.UniversalOptions{IsClusterMode: scheme == "redis-cluster"}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		if o.Username, err = url.PathUnescape(user); err != nil {
			return nil, errRedisURL
		}
		if o.Password, err = url.PathUnescape(password); err != nil {
			return nil, errRedisURL
		}
		rest = rest[at+1:]
	}
	for host := range strings.SplitSeq(rest, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			return nil, errRedisURL
		}
		o.Addrs = append(o.Addrs, host)
	}
	if values.Get("tls") == "true" {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.IsClusterMode {
		return o, nil
	}
	if o.MasterName = values.Get("master"); o.MasterName == "" {
		return nil, errors.New("redis-sentinel:// wants ?master=NAME")
	}
	o.SentinelPassword = values.Get("sentinel_password")
	if path != "" {
		if o.DB, err = strconv.Atoi(path); err != nil {
			return nil, errRedisURL
		}
	}
	return o, nil
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
