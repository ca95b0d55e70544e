package wake

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisDialTimeout = 2 * time.Second
	redisTimeout     = 2 * time.Second
	// redisBuffer is how much a connection reads or writes at a time: what is asked of Redis is
	// small, and go-redis has buffers of 32 KiB.
	redisBuffer = 4 << 10
	// scriptPause is how long a failed script call waits: with Redis answering
	// errors (out of memory, say) asynq's dequeue loop would otherwise repeat it
	// 15,000 times a second.
	scriptPause = 200 * time.Millisecond
)

// Open makes a client for redis://, rediss://, and
//
//	redis-sentinel://[user:password@]h1:p,h2:p[/database]?master=NAME
//	redis-cluster://[user:password@]h1:p,h2:p
//
// where the query may have tls=true, and for sentinels that want a password of
// their own sentinel_username and sentinel_password. It does not connect: Redis
// may be away when the relay starts.
func Open(rawURL string) (redis.UniversalClient, error) {
	options, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	options.DialTimeout = redisDialTimeout
	options.ReadTimeout = redisTimeout
	options.WriteTimeout = redisTimeout
	options.ReadBufferSize, options.WriteBufferSize = redisBuffer, redisBuffer
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

// CheckURL says what is wrong with a URL for Open. It does not quote
// it: the URL may hold a password.
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}

var errURL = errors.New("want redis://, rediss://, redis-sentinel://h1:p,h2:p?master=NAME or redis-cluster://h1:p,h2:p")

func parseURL(raw string) (*redis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, errURL
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
	case "redis-sentinel":
		return parseSentinelURL(rest)
	case "redis-cluster":
		o, _, err := parseHosts(rest)
		if err != nil {
			return nil, err
		}
		if o.DB != 0 {
			return nil, errors.New("a Redis Cluster has database 0 alone")
		}
		o.IsClusterMode = true
		return o, nil
	}
	return nil, errURL
}

func parseSentinelURL(rest string) (*redis.UniversalOptions, error) {
	o, query, err := parseHosts(rest, "master", "sentinel_username", "sentinel_password")
	if err != nil {
		return nil, err
	}
	if o.MasterName = query.Get("master"); o.MasterName == "" {
		return nil, errors.New("redis-sentinel:// wants ?master=NAME")
	}
	o.SentinelUsername, o.SentinelPassword = query.Get("sentinel_username"), query.Get("sentinel_password")
	return o, nil
}

// parseHosts reads the forms with several hosts, which net/url cannot. Beside
// tls the query may have nothing but what is allowed: a misspelt word would
// otherwise go unnoticed.
func parseHosts(rest string, allowed ...string) (*redis.UniversalOptions, url.Values, error) {
	rest, query, _ := strings.Cut(rest, "?")
	hosts, path, _ := strings.Cut(rest, "/")
	o := &redis.UniversalOptions{}
	if at := strings.LastIndex(hosts, "@"); at >= 0 {
		var userErr, passwordErr error
		user, password, _ := strings.Cut(hosts[:at], ":")
		o.Username, userErr = url.PathUnescape(user)
		o.Password, passwordErr = url.PathUnescape(password)
		if userErr != nil || passwordErr != nil {
			return nil, nil, errURL
		}
		hosts = hosts[at+1:]
	}
	for address := range strings.SplitSeq(hosts, ",") {
		host, port, err := net.SplitHostPort(address)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || host == "" || n == 0 {
			return nil, nil, errURL
		}
		o.Addrs = append(o.Addrs, address)
	}
	if path != "" {
		n, err := strconv.ParseUint(path, 10, 16)
		if err != nil {
			return nil, nil, errURL
		}
		o.DB = int(n)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, nil, errURL
	}
	for name := range values {
		if name != "tls" && !slices.Contains(allowed, name) {
			return nil, nil, errors.New("the query of the Redis URL may have nothing but " + strings.Join(append(allowed, "tls"), ", "))
		}
	}
	if values.Has("tls") {
		secure, err := strconv.ParseBool(values.Get("tls"))
		if err != nil {
			return nil, nil, errors.New("the Redis URL wants tls=true or tls=false")
		}
		if secure {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	}
	return o, values, nil
}
