package api

import (
	"encoding/base64"
	"regexp"
	"time"

	"oprelay/storage"
)

const defaultLimit = 50

// pageOf reads where a list goes on, whose ids begin with the prefix. The cursor
// is the last id of the page before; it is wrapped so that nobody makes one up,
// and that of another list is refused: all ids can be compared, so it would
// silently give a wrong part of this one.
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
