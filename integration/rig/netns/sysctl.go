package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl writes a network sysctl of the namespace; the key may be written with
// dots or slashes ("net.ipv4.ip_forward").
func (n *NetNS) Sysctl(key, value string) error {
	return n.Do(func() error {
		if err := os.WriteFile(sysctlPath(key), []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl %s in %s: %w", key, n.name, err)
		}
		return nil
	})
}

// ReadSysctl reads a network sysctl of the namespace.
func (n *NetNS) ReadSysctl(key string) (string, error) {
	var value string
	err := n.Do(func() error {
		raw, err := os.ReadFile(sysctlPath(key))
		value = strings.TrimSpace(string(raw))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("sysctl %s in %s: %w", key, n.name, err)
	}
	return value, nil
}

// sysctlPath keeps the dots of an interface name when slashes are used.
func sysctlPath(key string) string {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return filepath.Join("/proc/sys", filepath.Clean("/"+key))
}
