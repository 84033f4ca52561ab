// Package console is the control API: HTTP and JSON on a unix socket, the row
// types that it speaks, and the client that the command line uses.
//
// It knows nothing of the rooms behind it. The daemon implements Backend and
// fills the rows; docs/api.md describes them for programs outside, and golden
// files hold that description and the code together.
package console
