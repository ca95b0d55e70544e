package notifier

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	secretPrefix   = "whsec_"
	newSecretBytes = 32
	minSecretBytes = 24 // Standard Webhooks 1.0.0, "Signature scheme": 24 to 64 bytes
	maxSecretBytes = 64
)

// NewSecret returns a fresh signing secret: whsec_ and the base64 of 32 random bytes.
func NewSecret() string {
	key := make([]byte, newSecretBytes)
	_, _ = rand.Read(key) // never fails: it ends the program instead
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// CheckSecret says whether a secret brought from elsewhere can sign: whsec_ and the base64 of 24 to 64 bytes.
// The error tells its owner what to do and never holds any of the secret.
func CheckSecret(secret string) error {
	_, err := signingKey(secret)
	return err
}

func signingKey(secret string) ([]byte, error) {
	switch {
	case secret == "":
		return nil, errors.New("is empty")
	case strings.TrimSpace(secret) != secret:
		return nil, errors.New("has white space around it: remove it")
	case strings.HasPrefix(secret, "v1,"):
		return nil, errors.New("begins with v1, which marks a version: remove the v1, so that it begins with whsec_")
	case strings.HasPrefix(secret, "whsk_"), strings.HasPrefix(secret, "whpk_"):
		return nil, errors.New("is a key of the asymmetric scheme: use a symmetric secret, which begins with whsec_")
	case !strings.HasPrefix(secret, secretPrefix):
		return nil, errors.New("does not begin with whsec_: put whsec_ before the base64 of the secret's bytes")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || strings.ContainsAny(secret, "\r\n") {
		return nil, errors.New("is not base64 after whsec_: use the standard alphabet (+ and /), padded with =")
	}
	if len(key) < minSecretBytes || len(key) > maxSecretBytes {
		return nil, fmt.Errorf("holds %d bytes: it must hold %d to %d", len(key), minSecretBytes, maxSecretBytes)
	}
	return key, nil
}

// signatures is the value of webhook-signature: one "v1,BASE64" per secret, separated by spaces. Each is the
// HMAC-SHA256 of "ID.TIMESTAMP.BODY" (Standard Webhooks 1.0.0, "Signature scheme").
func signatures(secrets []string, id string, at time.Time, body []byte) (string, error) {
	if len(secrets) == 0 {
		return "", errors.New("the destination has no signing secret")
	}
	signed := make([]string, 0, len(secrets))
	for _, secret := range secrets {
		key, err := signingKey(secret)
		if err != nil {
			return "", fmt.Errorf("the destination's signing secret %w", err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signed = append(signed, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signed, " "), nil
}
