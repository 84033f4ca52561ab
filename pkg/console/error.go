package console

// Error is the API's error: what the server answers, what the client returns
// and what the command line prints with --json.
type Error struct {
	Code    string   `json:"code"` // a word that does not change between versions
	Message string   `json:"message"`
	Details []string `json:"details,omitempty"` // one line each, where there are several
	Status  int      `json:"-"`                 // HTTP, 0 where no answer came
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// ErrorBody is the JSON of an error.
type ErrorBody struct {
	Error *Error `json:"error"`
}

// Health is the answer of /healthz while all is well.
type Health struct {
	Healthy bool `json:"healthy"`
}
