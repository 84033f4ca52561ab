package console

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Value is a quantity or a name as people write it: text with a unit, or a bare
// number. The zero Value is left out.
type Value struct {
	Text   string
	Number bool // Text is a JSON number
}

// Text returns a Value that is a JSON string.
func Text(s string) Value { return Value{Text: s} }

// IsZero says whether there is nothing.
func (v Value) IsZero() bool { return v == Value{} }

// UnmarshalJSON takes a string or a number.
func (v *Value) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	switch {
	case bytes.Equal(data, []byte("null")):
		*v = Value{}
		return nil
	case len(data) > 0 && data[0] == '"':
		*v = Value{}
		return json.Unmarshal(data, &v.Text)
	}
	var n json.Number
	if err := json.Unmarshal(data, &n); err != nil {
		return errors.New("give text in quotes or a number")
	}
	*v = Value{Text: n.String(), Number: true}
	return nil
}

// MarshalJSON writes what UnmarshalJSON takes.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.Number {
		return json.Marshal(json.Number(v.Text))
	}
	return json.Marshal(v.Text)
}
