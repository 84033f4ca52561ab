// Package etcdtest starts etcd for a test: one member or a cluster, on ports of
// 127.0.0.1 and in temporary directories. A member is a process of its own, the
// test's program once more, so that it can be killed as a machine dies. It is for
// tests, whose TestMain begins with [Member].
package etcdtest
