// Package archtest holds the walls between the rooms of docs/architecture.md.
// The linter sees the imports of a file; the test here sees what a package
// reaches through others, and says why that is forbidden.
package archtest
