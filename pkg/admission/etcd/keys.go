package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxName is the longest name of a box or an account in bytes.
const maxName = 64

// CheckName tells what is wrong with the name of a box or of a shared account:
// it is a part of a key.
func CheckName(s string) error {
	if s == "" || len(s) > maxName {
		return fmt.Errorf("a name has 1 to %d characters", maxName)
	}
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r) {
			return errors.New("a name has letters, digits, dots, dashes and underscores")
		}
	}
	return nil
}

// keys are the names of what a box reads and writes.
type keys struct{ prefix, box string }

func (k keys) all() string                 { return k.prefix + "/" }
func (k keys) marker() string              { return k.prefix + "/boxes/" + k.box }
func (k keys) guard(account string) string { return k.prefix + "/guard/" + account }
func (k keys) sums(account string) string  { return k.prefix + "/sums/" + account + "/" }
func (k keys) own(account string) string   { return k.sums(account) + k.box }

// parse takes a key apart; kind is boxes, guard or sums, or empty for what is
// none of ours.
func (k keys) parse(key string) (kind, account, box string) {
	rest, ok := strings.CutPrefix(key, k.prefix+"/")
	if !ok {
		return "", "", ""
	}
	p := strings.Split(rest, "/")
	switch {
	case len(p) == 2 && p[0] == "boxes":
		return p[0], "", p[1]
	case len(p) == 2 && p[0] == "guard":
		return p[0], p[1], ""
	case len(p) == 3 && p[0] == "sums":
		return p[0], p[1], p[2]
	}
	return "", "", ""
}

// line is the value of a box's sum. Limit is what the box takes the account to
// have, so that boxes that do not agree are found.
type line struct {
	Sum   int64 `json:"sum"`   // bytes/s
	Limit int64 `json:"limit"` // bytes/s
}

// maxSum bounds what is believed of another box, so that no sum of them overflows.
const maxSum = 1 << 50

func parseLine(b []byte) (line, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return line{}, err
	}
	if l.Sum < 0 || l.Sum > maxSum {
		return line{}, fmt.Errorf("%d is no sum", l.Sum)
	}
	return l, nil
}

// owner is the value of a box's marker.
type owner struct {
	// Instance is this process, and no other.
	Instance string `json:"instance"`
	// Home is what only one process at a time can have: who finds it the same
	// knows that the other is dead.
	Home string `json:"home"`
	Host string `json:"host"` // for people
}

// text is the JSON of a value that has no way to fail.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
