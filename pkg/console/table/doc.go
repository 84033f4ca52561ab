// Package table prints the API's rows for people: aligned columns, with units.
// Programs use the JSON.
package table
