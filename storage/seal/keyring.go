// Package seal keeps secrets from being read: a key ring that seals what is stored,
// and a type of text that hides itself wherever it is printed.
package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealedVersion is the first byte of what Seal makes:
// version, length of the key's id, the id, nonce, ciphertext.
const sealedVersion = 1

// Keyring seals secrets with its first key and opens what any of its keys
// sealed. It uses XChaCha20-Poly1305, whose nonces are long enough to be random.
type Keyring struct {
	first string
	keys  map[string]cipher.AEAD
}

// maxKeyID bounds the length of a key's id, which must fit a byte.
const maxKeyID = 64

func notKeyIDLetter(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// ParseKeyring reads "ID:BASE64,ID:BASE64": each key is 32 bytes, in standard or
// URL base64, and the first one seals. The error names every fault, and no key.
func ParseKeyring(spec string) (*Keyring, error) {
	ring := &Keyring{keys: map[string]cipher.AEAD{}}
	var faults []error
	for i, part := range strings.Split(spec, ",") {
		id, aead, err := parseKey(strings.TrimSpace(part))
		if err == nil && ring.keys[id] != nil {
			err = errors.New("its id is another key's too")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		if ring.first == "" {
			ring.first = id
		}
		ring.keys[id] = aead
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return ring, nil
}

func parseKey(text string) (string, cipher.AEAD, error) {
	id, encoded, found := strings.Cut(text, ":")
	if !found || id == "" || len(id) > maxKeyID || strings.ContainsFunc(id, notKeyIDLetter) {
		return "", nil, errors.New("must be ID:BASE64, the id being 1 to 64 of A-Z a-z 0-9 _ -")
	}
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(encoded, "="))
	key, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil {
		// The decoder's error says where, and nothing useful; the id may be the key, if both were exchanged.
		return "", nil, errors.New("what follows the id is not base64")
	}
	if len(key) != chacha20poly1305.KeySize {
		return "", nil, fmt.Errorf("has %d bytes; it must have %d (openssl rand -base64 32)",
			len(key), chacha20poly1305.KeySize)
	}
	aead, err := chacha20poly1305.NewX(key)
	return id, aead, err
}

// NewKey makes a fresh key in the form that ParseKeyring reads. Its id is new, too.
func NewKey() string {
	random := make([]byte, chacha20poly1305.KeySize+4)
	rand.Read(random) // never fails, see its documentation
	return fmt.Sprintf("k%x:%s", random[:4], base64.StdEncoding.EncodeToString(random[4:]))
}

// First is the id of the key that seals.
func (k *Keyring) First() string { return k.first }

// IDs are the ids of all keys, sorted.
func (k *Keyring) IDs() []string { return slices.Sorted(maps.Keys(k.keys)) }

// Seal encrypts plain. It can only be opened with the same additional text,
// which says where it is kept, so that it cannot be moved elsewhere.
func (k *Keyring) Seal(additional string, plain []byte) ([]byte, error) {
	aead := k.keys[k.first]
	if aead == nil {
		return nil, errors.New("seal: the keyring is empty")
	}
	sealed := append([]byte{sealedVersion, byte(len(k.first))}, k.first...)
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce) // never fails, see its documentation
	return aead.Seal(append(sealed, nonce...), nonce, plain, []byte(additional)), nil
}

// SealedWith is the id of the key that Seal used, "" if this was not sealed.
func SealedWith(sealed []byte) string {
	if len(sealed) < 2 || sealed[0] != sealedVersion || len(sealed) < 2+int(sealed[1]) {
		return ""
	}
	return string(sealed[2 : 2+int(sealed[1])])
}

// Open decrypts what Seal made.
func (k *Keyring) Open(additional string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, errors.New("open: its secret is forgotten, for the key that sealed it was lost")
	}
	id := SealedWith(sealed)
	if id == "" {
		return nil, errors.New("open: this was not sealed by the relay")
	}
	rest := sealed[2+len(id):]
	aead := k.keys[id]
	if aead == nil {
		return nil, fmt.Errorf("open: it was sealed with the key %q, which RELAY_ENCRYPTION_KEYS lacks", id)
	}
	if len(rest) < aead.NonceSize() {
		return nil, errors.New("open: this was not sealed by the relay")
	}
	plain, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], []byte(additional))
	if err != nil {
		return nil, fmt.Errorf("open: the key %q does not open it: another key of that id sealed it, or it was changed", id)
	}
	return plain, nil
}

// Reseal is the value sealed under the first key: itself, if it is so already.
func (k *Keyring) Reseal(additional string, sealed []byte) ([]byte, error) {
	plain, err := k.Open(additional, sealed)
	if err != nil || SealedWith(sealed) == k.first {
		return sealed, err
	}
	return k.Seal(additional, plain)
}
