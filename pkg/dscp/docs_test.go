package dscp

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The table of docs/qos.md is this one.
func TestTheDocumentsTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/qos.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows strings.Builder
	for _, c := range Classes() {
		names := make([]string, 0, len(c.Codes))
		for _, v := range c.Codes {
			names = append(names, Name(v))
		}
		admitted := ""
		if c.Admitted {
			admitted = "yes "
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | %s|\n", c.Name, strings.Join(names, ", "), c.RFC, admitted)
	}
	if !strings.Contains(string(text), rows.String()) {
		t.Errorf("docs/qos.md does not have the table of service classes as it is:\n%s", &rows)
	}
}
