package authn

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// StaticTokens are the tokens of --token-auth-file.
type StaticTokens struct{ users map[string]*Identity }

// LoadTokenFile reads a CSV file of token, user name, user UID and optionally a quoted, comma-separated list of groups.
func LoadTokenFile(path string) (*StaticTokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	s := &StaticTokens{users: map[string]*Identity{}}
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("token file %s: %w", path, err)
		}
		if len(rec) < 3 {
			return nil, fmt.Errorf("token file '%s' must have at least 3 columns (token, user name, user uid), found %d", path, len(rec))
		}
		if rec[0] == "" {
			continue
		}
		id := &Identity{Name: rec[1], UID: rec[2]}
		if len(rec) > 3 && rec[3] != "" {
			id.Groups = strings.Split(rec[3], ",")
		}
		s.users[rec[0]] = id
	}
}

// AuthenticateToken implements TokenAuthenticator.
func (s *StaticTokens) AuthenticateToken(_ context.Context, token string) (*Identity, bool, error) {
	id, ok := s.users[token]
	return id, ok, nil
}
