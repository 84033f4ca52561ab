package byhand

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func example(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/book.json")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The form of the file is a promise to the program's next version.
func TestFileForm(t *testing.T) {
	want := example(t)
	b, err := Decode(want, 10)
	if err != nil {
		t.Fatal(err)
	}
	if b.Len() != 2 || b.last != 7 {
		t.Errorf("%+v", b)
	}
	got, err := b.Encode()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v, written is\n%s", err, got)
	}
}

func TestEveryTruncatedFileIsRefused(t *testing.T) {
	data := bytes.TrimSpace(example(t))
	for n := range data {
		if _, err := Decode(data[:n], 10); err == nil {
			t.Fatalf("%d of %d bytes are taken", n, len(data))
		}
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	data := string(example(t))
	for want, change := range map[string][2]string{
		"version 2 of the file": {`"version": 1`, `"version": 2`},
		"unknown field":         {`"side"`, `"sight"`},
		"is there twice":        {`"id": 7`, `"id": 3`},
		"not from 1 to last_id": {`"last_id": 7`, `"last_id": 6`},
		"entry 1: sport":        {`"10.1.0.2:4000"`, `"10.1.0.2:0"`},
		"already":               {`"src": "[fd00:1::2]:4000",` + "\n   " + `"dst": "[fd00:2::2]:104"`, `"src": "10.1.0.2:4000",` + "\n   " + `"dst": "10.2.0.2:5004"`},
		"service":               {`"controlled-load"`, `"best"`},
		"src or dst is missing": {`"dst": "10.2.0.2:5004"`, `"dst": ""`},
		"more than one object":  {"\n}\n", "\n}\n{}"},
	} {
		bad := strings.Replace(data, change[0], change[1], 1)
		if bad == data {
			t.Fatalf("%s: nothing to replace", want)
		}
		if want == "already" { // two TCP flows would differ from one of UDP
			bad = strings.Replace(bad, `"protocol": 6`, `"protocol": 17`, 1)
			bad = strings.Replace(bad, `"tcp": "reliable"`, `"tcp": "none"`, 1)
		}
		if _, err := Decode([]byte(bad), 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(example(f))
	f.Add([]byte(`{"version":1,"last_id":0,"reservations":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Decode(data, 10)
		if err != nil {
			return
		}
		for _, r := range b.List() {
			if err := r.Check(); err != nil {
				t.Errorf("taken: %v", err)
			}
		}
		out, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(out, 10)
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(twice, out) {
			t.Errorf("%v:\n%s\n%s", err, out, twice)
		}
	})
}
