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

func (k keys) marker() string             { return k.prefix + "/boxes/" + k.box }
func (k keys) all() string                { return k.prefix + "/sums/" }
func (k keys) sums(account string) string { return k.all() + account + "/" }
func (k keys) own(account string) string  { return k.sums(account) + k.box }

// parse takes the key of a line apart; box is empty for what is none.
func (k keys) parse(key string) (account, box string) {
	rest, ok := strings.CutPrefix(key, k.all())
	account, box, two := strings.Cut(rest, "/")
	if !ok || !two || account == "" || strings.Contains(box, "/") {
		return "", ""
	}
	return account, box
}

// line is a box's line in an account.
type line struct {
	Sum   int64 `json:"sum"`             // what it holds
	Asked int64 `json:"asked,omitempty"` // what it would hold, if there is room; more than Sum, or 0
	Limit int64 `json:"limit"`           // what it takes the account to have: all boxes should agree
}

// counts is what others must leave to the box.
func (l line) counts() int64 { return max(l.Sum, l.Asked) }

// maxSum bounds what is believed of another box, so that no sum of them overflows.
const maxSum = 1 << 50

func parseLine(b []byte) (line, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return line{}, err
	}
	if l.Sum < 0 || l.Sum > maxSum || l.Asked < 0 || l.Asked > maxSum {
		return line{}, fmt.Errorf("%s has no sums of an account", b)
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
