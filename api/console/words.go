package console

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"html/template"
	"reflect"
	"strings"
	"time"

	"oprelay/api/client"
)

// functions are what templates can call.
func (c *Console) functions() template.FuncMap {
	return template.FuncMap{
		"ago":      func(moment any) template.HTML { return relative(c.now(), moment) },
		"duration": duration,
		"asset":    c.assets.url,
		"words":    words,
		"short":    short,
		"plain":    plain,
		"title":    title,
		"entry":    navigation,
		"statuses": statuses,
		"now":      func() string { return c.now().UTC().Format(time.RFC3339Nano) },
		"once":     rand.Text,
		"curl":     func(id, what, command string) shellCommand { return shellCommand{id, what, command} },
		"late":     func(planned *time.Time) bool { return late(c.now(), planned) },
		"held":     func(by client.HeldBy) string { return heldBy[by] },
		"types":    eventTypes,
		"copied":   newCopied,
		"health":   health,
		"params":   paramsOf,
		"own":      ownWord,
		"lower":    strings.ToLower,
		"auth":     func(way client.CredentialAuth) string { return auth(string(way)) },
		"anyAuth":  anyAuth,
		"where":    where,
		"reason":   func(why string) string { return cmp.Or(reasons[why], words(why)) },
	}
}

// relative is a time as people tell it, with the exact one on hover: "3 min ago", "in 5 s".
// moment is a time.Time or a *time.Time.
func relative(now time.Time, moment any) template.HTML {
	var at time.Time
	switch moment := moment.(type) {
	case time.Time:
		at = moment
	case *time.Time:
		if moment != nil {
			at = *moment
		}
	}
	if at.IsZero() {
		return "–"
	}
	at = at.UTC()
	text := "now"
	switch between := now.Sub(at); {
	case between >= time.Second:
		text = duration(between) + " ago"
	case between <= -time.Second:
		text = "in " + duration(-between)
	}
	return template.HTML(fmt.Sprintf(`<time datetime="%s" title="%s">%s</time>`, //nolint:gosec // times alone
		at.Format(time.RFC3339Nano), at.Format("2006-01-02 15:04:05 UTC"), text))
}

// duration is a time in its largest unit: "42 s", "3 min", "5 h", "12 d".
func duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 2*day:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d/day))
}

// words is an identifier of the API's as words: "rate_limited" is "rate limited".
func words(name any) string {
	return strings.ReplaceAll(fmt.Sprint(reflect.Indirect(reflect.ValueOf(name))), "_", " ")
}

// deref is what a *string points to, or "".
func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// entry is one of the navigation.
type entry struct {
	Path, Name string
	Current    bool
}

func navigation(v view, path, name string) entry { return entry{path, name, v.Section == path} }

// statuses are those that a list can be filtered by.
func statuses(of string) []string {
	return map[string][]string{
		"watch":    {"watching", "completed", "failed", "expired", "unobservable", "canceled"},
		"delivery": {"pending", "held", "succeeded", "failed", "canceled"},
	}[of]
}

// copied is a text that a button copies; its ID is an element's.
type copied struct{ ID, Text, What string }

func newCopied(id, text, what string) copied { return copied{id, text, what} }

// shellCommand is one to copy.
type shellCommand struct{ ID, What, Command string }

// heldBy is what a poll waits for, in words.
//
//nolint:gochecknoglobals // a constant that Go cannot declare as such
var heldBy = map[client.HeldBy]string{
	client.HeldByBudget:    "It waits for the credential's budget, which has to last for all that is watched with it.",
	client.HeldByRateLimit: "The upstream lets nothing be asked with this credential for now.",
	client.HeldByRefusal:   "The upstream refuses the credential: one of its operations asks for all, until it is taken again.",
}

// reasons are why a watch ended without the end of its operation.
//
//nolint:gochecknoglobals,gosec // a constant that Go cannot declare as such; no credentials
var reasons = map[string]string{
	"deadline":            "No end was seen before the deadline.",
	"not_found":           "The upstream does not know the operation.",
	"credential_rejected": "The upstream refused the credential for longer than the grace.",
}

// short is the beginning of a text, or "".
func short(text *string) string {
	const most = 120 // characters
	said := plain(text)
	if runes := []rune(said); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return said
}

// plain is an error's text without what only programmers say, or "".
func plain(text *string) string {
	const deadline = "context deadline exceeded"
	return strings.ReplaceAll(strings.ReplaceAll(deref(text), ": "+deadline, ""), deadline, "no answer in time")
}
