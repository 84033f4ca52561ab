// Package netns makes network namespaces for tests and demonstrations, runs
// functions inside them, and furnishes them with veth pairs, bridges,
// addresses, routes and sysctls over netlink. It runs no program.
//
// Everything is made inside the namespaces, never in the caller's own: an
// interface disappears with its namespace, so removing the namespaces removes
// all of it.
package netns
