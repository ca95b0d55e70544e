package jobs

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

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
	case "redis-sentinel":
		return parseSentinelURL(rest)
	case "redis-cluster":
		o, _, err := parseRedisHosts(rest)
		if err != nil {
			return nil, err
		}
		if o.DB != 0 {
			return nil, errors.New("a Redis Cluster has database 0 alone")
		}
		o.IsClusterMode = true
		return o, nil
	}
	return nil, errRedisURL
}

func parseSentinelURL(rest string) (*redis.UniversalOptions, error) {
	o, query, err := parseRedisHosts(rest, "master", "sentinel_username", "sentinel_password")
	if err != nil {
		return nil, err
	}
	if o.MasterName = query.Get("master"); o.MasterName == "" {
		return nil, errors.New("redis-sentinel:// wants ?master=NAME")
	}
	o.SentinelUsername, o.SentinelPassword = query.Get("sentinel_username"), query.Get("sentinel_password")
	return o, nil
}

// parseRedisHosts reads the forms with several hosts, which net/url cannot. Beside
// tls the query may have nothing but what is allowed: of a word that is misspelt
// nobody would hear.
func parseRedisHosts(rest string, allowed ...string) (*redis.UniversalOptions, url.Values, error) {
	rest, query, _ := strings.Cut(rest, "?")
	hosts, path, _ := strings.Cut(rest, "/")
	o := &redis.UniversalOptions{}
	if at := strings.LastIndex(hosts, "@"); at >= 0 {
		var userErr, passwordErr error
		user, password, _ := strings.Cut(hosts[:at], ":")
		o.Username, userErr = url.PathUnescape(user)
		o.Password, passwordErr = url.PathUnescape(password)
		if userErr != nil || passwordErr != nil {
			return nil, nil, errRedisURL
		}
		hosts = hosts[at+1:]
	}
	for address := range strings.SplitSeq(hosts, ",") {
		host, port, err := net.SplitHostPort(address)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || host == "" || n == 0 {
			return nil, nil, errRedisURL
		}
		o.Addrs = append(o.Addrs, address)
	}
	if path != "" {
		n, err := strconv.ParseUint(path, 10, 16)
		if err != nil {
			return nil, nil, errRedisURL
		}
		o.DB = int(n)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, nil, errRedisURL
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
