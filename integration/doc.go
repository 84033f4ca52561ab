// Package integration has no code of its own: its tests run real `qosproxy run`
// processes between real kernel hosts, in namespaces that the rig makes. They
// need root; QOSPROXY_REQUIRE_ROOT=1 turns a skip into a failure, and
// QOSPROXY_RACE=1 has the boxes look for data races.
//
// The program is built by the tests themselves, so a result that the go command
// has cached says nothing about it: run them with -count=1 or -shuffle=on.
//
// A scenario of its own namespaces, which shares nothing with others and mostly
// waits, says t.Parallel.
package integration
