// Package demo shows on one machine what the two boxes do: it builds a network
// of namespaces with package rig, measures real TCP and UDP through it without
// boxes, then with a `qosproxy run` process in each box's namespace, compares
// both with targets, and removes everything again.
package demo
