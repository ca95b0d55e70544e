// Package source holds what the relay knows of other APIs: how each kind of operation is
// asked about and how the answer is read, declared in YAML files. The built-in ones are
// embedded; operators add files of the same format. See README.md for the format.
package source

import (
	"regexp"
	"time"
)

// Upstream is an API: one base, one way to authenticate, one budget for a credential.
type Upstream struct {
	Name  string
	Title string
	// Base is what the paths of its sources follow, without a slash at its end; "" if the
	// operator has to set it.
	Base    string
	Auth    []Auth
	Headers map[string]string // of every request
	// Budget is what the relay asks with one credential, Egress what one process asks.
	Budget, Egress Rate
	Park           time.Duration // the least wait after a Limited answer
	Quota          Quota
	// Redirects says that redirects to the base's own origin are followed.
	Redirects bool
	MaxBody   int // bytes of an answer's body that are read
	// TokenURL and Scopes are for AuthOAuth2Client and AuthGoogleServiceAccount.
	TokenURL string
	Scopes   []string
	// Message is where an answer that is an error says why, for people; all that is there.
	Message []Pointer
	// Rules are tried before those of each source.
	Rules   []Rule
	Sources []*Source
}

// Source is one kind of operation of an upstream.
type Source struct {
	Name     string // UPSTREAM.KEY
	Upstream *Upstream
	Title    string
	Docs     string // a URL
	// Path follows the base, with {NAME} for parameters and {operation_id}; "" if the
	// operation's id is the URL to ask.
	Path        string
	Params      []Param // in the order of the file
	OperationID Param
	// Status, Error and CompletedAt are where an answer has them; the first that is there counts.
	Status, Error, CompletedAt []Pointer
	// ID is where an answer repeats the operation's id, which must agree; "" for nowhere.
	ID Pointer
	// Absent is what a 200 without a status is that no rule matches; "" for Inconclusive.
	Absent   Verdict
	Rules    []Rule // the upstream's first
	Examples []Example

	reader reader
	pieces []piece // of Path
}

// Param is a value that a watch gives.
type Param struct {
	Name    string
	Pattern string // a regular expression for the whole value
	Example string

	matcher *regexp.Regexp
}

// Rate is N requests in any Per.
type Rate struct {
	N   int
	Per time.Duration
}

// Auth is a way to authenticate. AuthHeader is followed by the header's name.
type Auth string

// The ways to authenticate.
const (
	AuthBearer               Auth = "bearer"
	AuthHeader               Auth = "header:"
	AuthBasic                Auth = "basic"
	AuthCloudflareKey        Auth = "cloudflare_key"
	AuthOAuth2Client         Auth = "oauth2_client"
	AuthGoogleServiceAccount Auth = "google_service_account"
	AuthNone                 Auth = "none"
)

// Quota names the headers that say what is left of a credential's budget; "" for none.
type Quota struct {
	Remaining    string
	ResetEpoch   string // Unix seconds
	ResetSeconds string
	// IETF is a structured field (draft-ietf-httpapi-ratelimit-headers): "policy";r=50;t=30.
	IETF string
}

// Verdict is what an answer says of an operation.
type Verdict string

// The verdicts.
const (
	Pending      Verdict = "pending"
	Running      Verdict = "running"
	Completed    Verdict = "completed"
	Failed       Verdict = "failed"
	NotFound     Verdict = "not_found"    // the upstream does not know it, or not yet
	Refused      Verdict = "refused"      // the credential was not accepted
	Limited      Verdict = "limited"      // every further request with this credential fails for a while
	Inconclusive Verdict = "inconclusive" // the answer says nothing of the operation
)

// Verdicts are all that there are.
func Verdicts() []Verdict {
	return []Verdict{Pending, Running, Completed, Failed, NotFound, Refused, Limited, Inconclusive}
}

// Known says whether the answer told of the operation itself.
func (v Verdict) Known() bool { return v == Pending || v == Running || v.Terminal() }

// Terminal says whether the operation is over.
func (v Verdict) Terminal() bool { return v == Completed || v == Failed }

// Rule is what an answer is where all that When says holds of it. The first rule that
// matches counts.
type Rule struct {
	When []Condition
	As   Verdict
	Line int // in its file
}

// Condition is one of a rule's. Exactly one of Pointer, Header and HTTP is set.
type Condition struct {
	Pointer Pointer
	Header  string
	HTTP    bool // the answer's status
	// Any is satisfied by each value but null, else one of Values has to be there. Values are
	// compared as text.
	Any    bool
	Values []string

	test     int // of the reader, for a Pointer
	statuses statuses
}

// Example is an answer and what it is. The examples of a definition are tests of it.
type Example struct {
	HTTP        int
	Header      map[string]string
	Body        []byte
	OperationID string
	As          Verdict
	// What is nil is not checked.
	Status, Error *string
	CompletedAt   *time.Time
	Line          int
}
