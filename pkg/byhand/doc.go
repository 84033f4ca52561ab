// Package byhand is the book of the reservations that people make by hand, as
// Cisco's ip rsvp sender and ip rsvp reservation do: what each asks for, its id
// and its end, and the form in which the book is kept in a file.
//
// It knows neither files nor clocks nor RSVP. The daemon reads and writes the
// file, and makes of each entry what a policy for that one flow would be.
package byhand
