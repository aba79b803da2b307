package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// The folders that are ours on a machine.
const (
	StateDir = "/var/lib/flagship"
	BinDir   = "/opt/flagship/bin"
	RunDir   = "/run/flagship"
	LogDir   = "/var/log/flagship"
)

// State is what ctl made on this machine beside kubeadm's own files. It is kept in StateDir.
type State struct {
	// Containerd is whether ctl started the runtime as a process of its own.
	Containerd bool `json:"containerd,omitempty"`
	// CRISocket is the runtime's endpoint.
	CRISocket string `json:"criSocket,omitempty"`
	// Sysctls are the values before ctl changed them.
	Sysctls map[string]string `json:"sysctls,omitempty"`
	// Files are those written outside of our folders.
	Files []string `json:"files,omitempty"`
	// Edited are files of others that ctl changed, and where each is kept as it was.
	Edited map[string]string `json:"edited,omitempty"`
	// Images are those imported into the runtime.
	Images []string `json:"images,omitempty"`
	// PodCIDR is this node's part of the pod network.
	PodCIDR string `json:"podCIDR,omitempty"`
}

func statePath() string { return filepath.Join(StateDir, "state.json") }

// LoadState reads the record, empty where there is none, and for who may not read it: preflight tells who is not root.
func LoadState() (*State, error) {
	s := &State{}
	data, err := os.ReadFile(statePath())
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", statePath(), err)
	}
	return s, nil
}

// Save writes the record.
func (s *State) Save() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(statePath(), data, 0o600)
}

// Own notes a file outside of our folders.
func (s *State) Own(path string) {
	if !slices.Contains(s.Files, path) {
		s.Files = append(s.Files, path)
	}
}

// WriteFile writes a file and the folders above it.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, mode)
}
