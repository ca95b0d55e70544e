package api

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxMetadata    = 8 << 10 // bytes of keys and values
	maxMetadataKey = 255     // characters
)

// placedWatch is a watch to be made and the place of it in the body.
type placedWatch struct {
	pointer string
	body    NewWatch
}

// checkWatches adds what the document cannot say to the faults of new
// watches, and returns them all as an error, or nil. Whether there are such
// credentials and destinations it asks only for a body that is refused anyway, to
// name all faults at once: whoever registers finds out without a question more.
func (s *Server) checkWatches(ctx context.Context, tenantID string, watches []placedWatch, f *faults) error {
	for _, w := range watches {
		checkMetadata(w.pointer, or(w.body.Metadata, nil), f)
	}
	if f.err() == nil {
		return nil
	}
	if err := s.checkReferences(ctx, tenantID, watches, f); err != nil {
		return err
	}
	return f.err()
}

// explainMissing is the error of a registration that did not find all that it
// refers to.
func (s *Server) explainMissing(ctx context.Context, tenantID string, watches []placedWatch) error {
	var f faults
	if err := s.checkReferences(ctx, tenantID, watches, &f); err != nil {
		return err
	}
	if err := f.err(); err != nil {
		return err
	}
	return errGone // it is there again
}

// checkReferences refuses credentials and destinations that the tenant does not
// have. One of another tenant does not exist here.
func (s *Server) checkReferences(ctx context.Context, tenantID string, watches []placedWatch, f *faults) error {
	var credentials, destinations []string
	for _, w := range watches {
		credentials = append(credentials, w.body.CredentialID)
		destinations = append(destinations, w.body.DestinationIds...)
	}
	knownCredentials, err := s.store.KnownCredentials(ctx, tenantID, unique(credentials))
	if err != nil {
		return err
	}
	knownDestinations, err := s.store.KnownDestinations(ctx, tenantID, unique(destinations))
	if err != nil {
		return err
	}
	for _, w := range watches {
		credentialID := w.body.CredentialID
		f.refuse(credentialID != "" && !knownCredentials[credentialID], w.pointer+at("credential_id"), "there is no such credential")
		for i, id := range w.body.DestinationIds {
			f.refuse(!knownDestinations[id], w.pointer+at("destination_ids", i), "there is no such destination")
		}
	}
	return nil
}

func checkMetadata(pointer string, metadata Metadata, f *faults) {
	total := 0
	for _, key := range sortedKeys(metadata) {
		total += len(key) + len(metadata[key])
		f.refuse(key == "" || utf8.RuneCountInString(key) > maxMetadataKey, pointer+at("metadata", key),
			"must have a key of 1 to 255 characters")
		f.refuse(strings.ContainsFunc(key, unicode.IsControl), pointer+at("metadata", key),
			"must not have control characters in its name")
	}
	f.refuse(total > maxMetadata, pointer+at("metadata"), "must not hold more than 8 KiB, keys and values together")
}

// unique is the ids that could be asked for, each once.
func unique(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	var once []string
	for _, id := range ids {
		if id != "" && !seen[id] && !strings.ContainsRune(id, 0) {
			seen[id] = true
			once = append(once, id)
		}
	}
	return once
}
