package console

// UserRow is one of admission.users.
type UserRow struct {
	Name         string   `json:"name"`
	Line         int      `json:"line"` // in the config file
	Identities   []string `json:"identities"`
	From         []string `json:"from"`
	ReservedBPS  uint64   `json:"reserved_bps"`
	LimitBPS     uint64   `json:"limit_bps"` // 0: none
	Reservations int      `json:"reservations"`
}
