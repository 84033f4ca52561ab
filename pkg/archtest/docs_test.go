package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	// testName is one in a document; ... behind it stands for all that begin so.
	testName = regexp.MustCompile(`\b((?:Test|Fuzz|Benchmark)[A-Z]\w*)(\.\.\.)?`)
)

// testsOf are the names of all tests in the tree.
func testsOf(t *testing.T, root string) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}

// What the documents say is shown by a test: each one that they name is there,
// and what docs/rfcs.md says is done names one.
func TestDocumentsNameTests(t *testing.T) {
	const root = "../.."
	tests := testsOf(t, root)
	begins := func(prefix string) bool {
		for name := range tests {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	}
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, file := range append(files, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			found := testName.FindAllStringSubmatch(line, -1)
			for _, m := range found {
				named++
				if !tests[m[1]] && (m[2] == "" || !begins(m[1])) {
					t.Errorf("%s:%d names %s, which is no test", filepath.Base(file), i+1, m[1])
				}
			}
			cells := strings.Split(line, "|")
			if filepath.Base(file) == "rfcs.md" && len(cells) == 5 && strings.HasPrefix(cells[3], " done") && len(found) == 0 && !strings.Contains(line, "`RFC") && !strings.Contains(line, "_test.go") {
				t.Errorf("rfcs.md:%d says that section %s is done, and names no test", i+1, strings.TrimSpace(cells[1]))
			}
		}
	}
	if named < 300 {
		t.Errorf("%d tests are named in the documents: were they found?", named)
	}
}
