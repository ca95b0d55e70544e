package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"oprelay/api/client"
)

// searched are the pages of things by the prefix of their ids.
//
//nolint:gochecknoglobals // a constant that Go cannot declare as such
var searched = map[string]string{
	"watch": "/watches/", "event": "/events/", "delivery": "/deliveries/", "destination": "/destinations/", "credential": "/credentials/",
}

// search leads from an id to its page, from KEY=VALUE to the watches with that metadata unless it is an operation's
// id, and from anything else to the watches of that operation.
func search(p *page) error {
	q := strings.TrimSpace(p.r.URL.Query().Get("q"))
	prefix, _, _ := strings.Cut(q, "_")
	key, value, isPair := metadataPair(q)
	if isPair && searched[prefix] == "" {
		one := 1
		watches, err := decode[client.WatchList](p.api.ListWatches(p.ctx, &client.ListWatchesParams{OperationID: &q, Limit: &one}))
		var refused *problem // an id that none can be
		if err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusUnprocessableEntity) {
			return err
		}
		isPair = len(watches.Data) == 0
	}
	target := "/watches?" + url.Values{"operation_id": {q}}.Encode()
	switch {
	case q == "":
		target = "/watches"
	case isPair && !strings.Contains(key, "://"): // an operation's id may be a URL
		target = "/watches?" + url.Values{"metadata[" + key + "]": {value}}.Encode()
	case searched[prefix] != "":
		target = searched[prefix] + url.PathEscape(q)
	}
	http.Redirect(p.w, p.r, target, http.StatusSeeOther)
	return nil
}
