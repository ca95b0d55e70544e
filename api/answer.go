package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"time"

	"github.com/labstack/echo/v4"

	"oprelay/storage"
)

const defaultLimit = 50

// pageOf reads where a list goes on. The cursor is the last id of the page before,
// encoded so that nobody builds one. One whose id lacks the prefix is another list's
// and is refused: ids of all lists compare, so it would give a wrong part of this one.
func pageOf(prefix string, limit *int, cursor *string) (storage.Page, error) {
	page := storage.Page{Limit: defaultLimit}
	if limit != nil {
		page.Limit = *limit
	}
	if cursor == nil {
		return page, nil
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(*cursor)
	if err != nil || !regexp.MustCompile(`^`+prefix+`_[0-7][0-9a-hjkmnp-tv-z]{25}$`).Match(id) {
		return page, invalid("?cursor", "must be the next_cursor of an earlier answer of this list, as it was")
	}
	page.After = string(id)
	return page, nil
}

// nextCursor is the cursor after a page whose last id is next; null if there
// is no more.
func nextCursor(next string) *string {
	if next == "" {
		return nil
	}
	cursor := base64.RawURLEncoding.EncodeToString([]byte(next))
	return &cursor
}

// write writes an answer that has been rendered.
func write(c echo.Context, a storage.Answer) error {
	if a.Location != "" {
		c.Response().Header().Set(echo.HeaderLocation, a.Location)
	}
	return c.Blob(a.Status, a.ContentType, a.Body)
}

// marshal is JSON for programs: &, < and > stay as they are.
func marshal(value any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return out.Bytes(), err
}

// respond writes a success that need not be kept: 200.
func respond(c echo.Context, value any) error {
	body, err := marshal(value)
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, contentTypeJSON, body)
}

// each converts every row of a page.
func each[R, A any](rows []R, convert func(R) A) []A {
	answers := make([]A, 0, len(rows))
	for _, row := range rows {
		answers = append(answers, convert(row))
	}
	return answers
}

// timeOrNull is null for the zero time.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// orNull is null for the zero value.
func orNull[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// or is the value, or what stands in for an absent one.
func or[T any](value *T, absent T) T {
	if value == nil {
		return absent
	}
	return *value
}
