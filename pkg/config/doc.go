// Package config turns the bytes of a config file into a validated, immutable
// Config: YAML to raw values with positions, raw values to the plain types
// that the engines' parameters are filled from.
//
// The package is pure: it opens no file. It is strict: an unknown key, a
// wrong type or unit, a key of a later version, and a policy that could never
// match are errors, each with its line and column, and all of them are
// reported in one go.
package config
